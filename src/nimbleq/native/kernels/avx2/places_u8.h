/* Where bytes are not 0, without branches; `row` needs room for count + 8 entries. */
NQ_INLINE int nq_places_u8(const uint8_t *x, const int count, int32_t *row)
{
    int n = 0, i = 0;
    for (; i + 8 <= count; i += 8) {
        uint64_t found;
        n += nq_nonzero8(x, i, &found, row + n);
    }
    for (; i < count; ++i) {
        row[n] = i;
        n += x[i] != 0;
    }
    return n;
}
