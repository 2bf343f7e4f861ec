/* (C, H, W) to (H, W, C). */
#define NQ_DEFINE_TO_HWC(suffix, type)                                                                             \
    NQ_INLINE void nq_to_hwc_##suffix(const type *x, type *y, const int channels, const int pixels)                \
    {                                                                                                              \
        if (channels == 4) {                                                                                       \
            for (int p = 0; p < pixels; ++p) {                                                                     \
                y[4 * p] = x[p];                                                                                   \
                y[4 * p + 1] = x[pixels + p];                                                                      \
                y[4 * p + 2] = x[2 * pixels + p];                                                                  \
                y[4 * p + 3] = x[3 * pixels + p];                                                                  \
            }                                                                                                      \
        } else {                                                                                                   \
            for (int c = 0; c < channels; ++c)                                                                     \
                for (int p = 0; p < pixels; ++p) y[p * channels + c] = x[c * pixels + p];                          \
        }                                                                                                          \
    }

NQ_DEFINE_TO_HWC(f32, float)
NQ_DEFINE_TO_HWC(u8, uint8_t)
