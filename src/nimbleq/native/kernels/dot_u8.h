/* The sum of products (16 bits each) of bytes and int8 weights. */
static inline uint32_t nq_dot_u8(const uint8_t *x, const NQ_FLASH int8_t *w, const int count)
{
    uint32_t sum = 0;
    for (int k = 0; k < count; ++k) sum += (uint32_t)(int32_t)(x[k] * w[k]);
    return sum;
}
