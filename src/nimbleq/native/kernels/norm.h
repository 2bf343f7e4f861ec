/* (x - mean) / sqrt(variance + eps), biased variance; weight and bias are applied by the caller. The mean is corrected by
 * what is left after a first one (Chan, Golub & LeVeque 1983): where all x are alike, its rounding would be divided by
 * sqrt(eps). */
static void nq_normalise(const float *x, float *y, const int count, const float eps)
{
    float mean = 0.0f, left = 0.0f, variance = 0.0f;
    for (int i = 0; i < count; ++i) mean += x[i];
    mean /= (float)count;
    for (int i = 0; i < count; ++i) left += x[i] - mean;
    mean += left / (float)count;
    for (int i = 0; i < count; ++i) {
        y[i] = x[i] - mean;
        variance += y[i] * y[i];
    }
    const float deviation = nq_sqrt(variance / (float)count + eps);
    for (int i = 0; i < count; ++i) y[i] /= deviation;
}
