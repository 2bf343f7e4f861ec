/* 1 when no entry is NaN or infinite; on bits, so that -ffast-math cannot remove it. */
static int nq_finite(const float *x, const int count)
{
    for (int i = 0; i < count; ++i) {
        union { float real; uint32_t bits; } entry;
        entry.real = x[i];
        if (entry.bits << 1 >= 0xff000000u) return 0;
    }
    return 1;
}
