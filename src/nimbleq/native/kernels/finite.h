/* 1 when no entry is NaN or infinite; on bits, so that -ffast-math cannot remove it. */
NQ_INLINE int nq_finite(const float *x, const int count)
{
    uint32_t bad = 0;
    for (int i = 0; i < count; ++i) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (uint32_t)((bits & 0x7f800000u) == 0x7f800000u);
    }
    return !bad;
}
