static float nq_sigmoid(const float x)
{
    const float e = nq_exp(x < 0.0f ? x : -x);
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* The new memory y of gates from the input and from the memory, [3 * count] each, and the memory. */
static void nq_gru(const float *input, const float *memory, const float *before, float *y, const int count)
{
    for (int i = 0; i < count; ++i) {
        const float reset = nq_sigmoid(input[i] + memory[i]), keep = nq_sigmoid(input[count + i] + memory[count + i]);
        const float fresh = nq_tanh(input[2 * count + i] + reset * memory[2 * count + i]);
        y[i] = (1.0f - keep) * fresh + keep * before[i];
    }
}
