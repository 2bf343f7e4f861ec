/* sum softmax(x)_i z_i */
static float nq_expectation(const float *x, const float *z, const int count)
{
    float most = x[0], mass = 0.0f, sum = 0.0f;
    for (int i = 1; i < count; ++i) most = x[i] > most ? x[i] : most;
    for (int i = 0; i < count; ++i) {
        const float e = nq_exp(x[i] - most);
        mass += e;
        sum += e * z[i];
    }
    return sum / mass;
}
