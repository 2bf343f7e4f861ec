/* The sum of products of bytes and int8 weights, 16 at a time: widened to 16 bits, neighbours added. */
static inline uint32_t nq_dot_u8(const uint8_t *x, const NQ_FLASH int8_t *w, const int count)
{
    v128_t sum = wasm_i32x4_splat(0);
    int k = 0;
    for (; k + 16 <= count; k += 16) {
        const v128_t part = wasm_v128_load(x + k), line = wasm_v128_load(w + k);
        const v128_t low =
            wasm_i32x4_dot_i16x8(wasm_u16x8_extend_low_u8x16(part), wasm_i16x8_extend_low_i8x16(line));
        const v128_t high =
            wasm_i32x4_dot_i16x8(wasm_u16x8_extend_high_u8x16(part), wasm_i16x8_extend_high_i8x16(line));
        sum = wasm_i32x4_add(sum, wasm_i32x4_add(low, high));
    }
    uint32_t total = wasm_u32x4_extract_lane(sum, 0) + wasm_u32x4_extract_lane(sum, 1);
    total += wasm_u32x4_extract_lane(sum, 2) + wasm_u32x4_extract_lane(sum, 3);
    for (; k < count; ++k) total += (uint32_t)((int32_t)x[k] * w[k]);
    return total;
}
