/* As nq_finite of many entries, which compilers turn into vectors. */
static int nq_finite_many(const float *x, const int count)
{
    uint32_t bad = 0;
    for (int i = 0; i < count; ++i) {
        union { float real; uint32_t bits; } entry;
        entry.real = x[i];
        bad |= (uint32_t)((entry.bits & 0x7f800000u) == 0x7f800000u);
    }
    return !bad;
}
