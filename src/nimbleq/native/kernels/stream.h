/* Stream Q(lambda) [2410.14606]: an update for every step, from that step alone. A network of Linear, LayerNorm and ReLU;
 * traces of its gradients; observations normalised, rewards scaled by running statistics; and a step size that is bounded
 * so that an update cannot overshoot. Weights of a layer: [inputs][outputs], then the biases. */
typedef struct {
    const int *widths; /* of the observation, the hidden layers and the action values */
    int layers;        /* of weights: one less than there are widths */
    int normalises;    /* observations, by their mean and deviation */
    int layer_norm;    /* before every ReLU */
    float clip;        /* of normalised observations */
    float gamma;       /* discount of a step */
    float decay;       /* lambda, of the traces beside gamma */
    float step;        /* size of a step where no bound is met */
    float bound;       /* kappa: 1 lets an update reach its target, if the network were linear; larger ones stop earlier */
} nq_stream;

/* Weights and biases. */
static int nq_stream_weights(const nq_stream *net)
{
    int count = 0;
    for (int l = 0; l < net->layers; ++l) count += (net->widths[l] + 1) * net->widths[l + 1];
    return count;
}

/* Where the weights begin in the state: after the counts, means and variances of observations and of the return so far. */
static int nq_stream_first(const nq_stream *net) { return 5 + 2 * net->widths[0]; }

/* Running mean and variance after one more value; `count` includes it. */
static void nq_stream_count(float *mean, float *variance, const float value, const float count)
{
    const float before = value - *mean;
    *mean += before / count;
    *variance += (before * (value - *mean) - *variance) / count;
}

static void nq_stream_normal(const nq_stream *net, const float *state, const float *obs, float *x)
{
    const float *mean = state + 1, *variance = mean + net->widths[0];
    for (int i = 0; i < net->widths[0]; ++i) {
        x[i] = obs[i];
        if (!net->normalises) continue;
        x[i] = variance[i] > 1e-12f ? (obs[i] - mean[i]) / nq_sqrt(variance[i]) : 0.0f;
        x[i] = x[i] < -net->clip ? -net->clip : x[i] > net->clip ? net->clip : x[i];
    }
}

/* (y - mean) / deviation in place; 1 / deviation. */
static float nq_stream_norm(float *y, const int count)
{
    float mean = 0.0f, left = 0.0f, variance = 0.0f;
    for (int i = 0; i < count; ++i) mean += y[i];
    mean /= (float)count;
    for (int i = 0; i < count; ++i) left += y[i] - mean;
    mean += left / (float)count;
    for (int i = 0; i < count; ++i) {
        y[i] -= mean;
        variance += y[i] * y[i];
    }
    const float inverse = 1.0f / nq_sqrt(variance / (float)count + 1e-5f);
    for (int i = 0; i < count; ++i) y[i] *= inverse;
    return inverse;
}

/* The action values of x. Into `work` go, of each hidden layer, what LayerNorm gives, what ReLU makes of it, and 1 /
 * deviation; then the values. */
static float *nq_stream_forward(const nq_stream *net, const float *weights, const float *x, float *work)
{
    for (int l = 0; l < net->layers; ++l) {
        const int in = net->widths[l], out = net->widths[l + 1];
        const float *bias = weights + in * out;
        for (int j = 0; j < out; ++j) work[j] = bias[j];
        for (int i = 0; i < in; ++i) {
            const float value = x[i], *row = weights + i * out;
            if (!(value >= 0.0f && value <= 0.0f))
                for (int j = 0; j < out; ++j) work[j] += value * row[j];
        }
        if (l == net->layers - 1) break;
        work[2 * out] = net->layer_norm ? nq_stream_norm(work, out) : 1.0f;
        for (int j = 0; j < out; ++j) work[out + j] = work[j] > 0.0f ? work[j] : 0.0f;
        x = work + out;
        weights += (in + 1) * out;
        work += 2 * out + 1;
    }
    return work;
}

/* Adds the gradient of the value of `action` at x to the traces; `work` as the forward pass left it, `delta` twice the
 * largest width of scratch. */
static void nq_stream_backward(
    const nq_stream *net, const float *weights, float *traces, const float *x, const float *work, float *delta,
    const int action)
{
    const int last = net->layers - 1;
    int most = 0;
    for (int l = 0; l <= net->layers; ++l) most = net->widths[l] > most ? net->widths[l] : most;
    float *const other = delta + most;
    for (int l = 0; l < last; ++l) {
        const int size = (net->widths[l] + 1) * net->widths[l + 1];
        weights += size;
        traces += size;
        work += 2 * net->widths[l + 1] + 1;
    }
    for (int l = last; l >= 0; --l) {
        const int in = net->widths[l], out = net->widths[l + 1];
        const float *below = l > 0 ? work - in - 1 : x;
        if (l == last) {
            for (int i = 0; i < in; ++i) {
                traces[i * out + action] += below[i];
                delta[i] = weights[i * out + action];
            }
            traces[in * out + action] += 1.0f;
        } else {
            float mean = 0.0f, slope = 0.0f;
            for (int j = 0; j < out; ++j) {
                other[j] = work[out + j] > 0.0f ? delta[j] : 0.0f;
                mean += other[j];
                slope += other[j] * work[j];
            }
            mean /= (float)out;
            slope /= (float)out;
            if (net->layer_norm)
                for (int j = 0; j < out; ++j) other[j] = work[2 * out] * (other[j] - mean - work[j] * slope);
            for (int i = 0; i < in; ++i) {
                const float value = below[i], *row = weights + i * out;
                float *trace = traces + i * out, sum = 0.0f;
                if (!(value >= 0.0f && value <= 0.0f))
                    for (int j = 0; j < out; ++j) trace[j] += value * other[j];
                if (l > 0)
                    for (int j = 0; j < out; ++j) sum += row[j] * other[j];
                delta[i] = sum;
            }
            for (int j = 0; j < out; ++j) traces[in * out + j] += other[j];
        }
        if (l == 0) break;
        weights -= (net->widths[l - 1] + 1) * in;
        traces -= (net->widths[l - 1] + 1) * in;
        work -= 2 * in + 1;
    }
}

/* Index of the largest value that `legal` (NULL: all) allows, the lowest index on ties; -1 where it allows none. */
static int nq_stream_best(const float *q, const uint8_t *legal, const int count)
{
    int best = -1;
    for (int a = 0; a < count; ++a)
        if ((!legal || legal[a]) && (best < 0 || q[a] > q[best])) best = a;
    return best;
}

/* One update from one step; the TD error before it, in scaled rewards.
 *
 * `over`: the episode ended, terminated or cut. `legal`, `next_legal`: not 0 where an action is legal; NULL: all are.
 * `work`: of 2 * observation + sum of 2 * width + 1 of the layers + 2 * the largest width. */
static float nq_stream_learn(
    const nq_stream *net, float *state, float *work, const float *obs, const int action, const float reward,
    const int terminated, const int over, const float *next_obs, const uint8_t *legal, const uint8_t *next_legal)
{
    const int size = net->widths[0], actions = net->widths[net->layers], count = nq_stream_weights(net);
    float *const weights = state + nq_stream_first(net), *const traces = weights + count;
    float *const mean = state + 1, *const variance = mean + size, *const scale = variance + size;
    float *const x = work, *const next = x + size, *const inner = next + size;
    float *delta = inner, sum = 0.0f, later = 0.0f;
    if (net->normalises) {
        state[0] += 1.0f;
        for (int i = 0; i < size; ++i) nq_stream_count(mean + i, variance + i, obs[i], state[0]);
    }
    scale[0] += 1.0f;
    scale[1] = (over ? 0.0f : net->gamma * scale[1]) + reward;
    nq_stream_count(scale + 2, scale + 3, scale[1], scale[0]);
    nq_stream_normal(net, state, obs, x);
    nq_stream_normal(net, state, next_obs, next);
    if (!terminated) {
        const float *q = nq_stream_forward(net, weights, next, inner);
        const int best = nq_stream_best(q, next_legal, actions);
        later = best < 0 ? 0.0f : q[best];
    }
    const float *const q = nq_stream_forward(net, weights, x, inner);
    const int greedy = nq_stream_best(q, legal, actions) == action;
    const float scaled = scale[0] < 2.0f ? reward : reward / nq_sqrt(scale[3] + 1e-8f);
    const float error = scaled + net->gamma * later - q[action];
    for (int l = 1; l <= net->layers; ++l) delta += 2 * net->widths[l] + 1;
    for (int k = 0; k < count; ++k) traces[k] *= net->gamma * net->decay;
    nq_stream_backward(net, weights, traces, x, inner, delta, action);
    for (int k = 0; k < count; ++k) sum += traces[k] < 0.0f ? -traces[k] : traces[k];
    const float large = error < 0.0f ? -error : error;
    const float reach = net->step * net->bound * (large > 1.0f ? large : 1.0f) * sum;
    const float step = (reach > 1.0f ? net->step / reach : net->step) * error;
    for (int k = 0; k < count; ++k) weights[k] += step * traces[k];
    if (over || !greedy)
        for (int k = 0; k < count; ++k) traces[k] = 0.0f;
    return error;
}
