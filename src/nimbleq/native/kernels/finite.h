/* 1 when no entry is NaN or infinite; on bits, so that -ffast-math cannot remove it. */
static int nq_finite(const float *x, const int count)
{
    uint32_t bad = 0;
    for (int i = 0; i < count; ++i) {
        union { float real; uint32_t bits; } entry;
        entry.real = x[i];
        bad |= (uint32_t)((entry.bits & 0x7f800000u) == 0x7f800000u);
    }
    return !bad;
}
