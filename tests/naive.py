"""Reference implementations in NumPy, float64 and plain loops.

Functions have no batch axis; `map_batch` applies a function to every example of a batch.
"""

import math

import numpy as np


def map_batch(function, *arrays):
    """Apply `function` to each example, and stack the results; `None` is passed through."""
    arrays = [x if x is None else np.asarray(x) for x in arrays]
    count = len(arrays[0])
    return np.stack([function(*(x if x is None else x[b] for x in arrays)) for b in range(count)])


def dot(queries, keys):
    """`[T, K]` and `[S, K]` to `[T, S]` (Luong et al. 2015, sec. 3.1)."""
    queries, keys = (np.asarray(x, np.float64) for x in (queries, keys))
    logits = np.zeros((len(queries), len(keys)))
    for t, query in enumerate(queries):
        for s, key in enumerate(keys):
            logits[t, s] = sum(q * k for q, k in zip(query, key, strict=True))
    return logits


def scaled_dot(queries, keys):
    """Vaswani et al. 2017, eq. 1."""
    return dot(queries, keys) / math.sqrt(np.shape(queries)[1])


def general(queries, keys, matrix):
    """`[T, K]`, `[S, J]` and `[K, J]` to `[T, S]` (Luong et al. 2015, sec. 3.1)."""
    queries, keys, matrix = (np.asarray(x, np.float64) for x in (queries, keys, matrix))
    logits = np.zeros((len(queries), len(keys)))
    for t, query in enumerate(queries):
        for s, key in enumerate(keys):
            for i, q in enumerate(query):
                for j, k in enumerate(key):
                    logits[t, s] += q * matrix[i, j] * k
    return logits


def content(queries, keys, strength):
    """Graves et al. 2014, eq. 5 and 6; zero vectors have similarity 0."""
    queries, keys = (np.asarray(x, np.float64) for x in (queries, keys))
    strength = np.broadcast_to(np.asarray(strength, np.float64), len(queries))
    logits = dot(queries, keys)
    for t, query in enumerate(queries):
        for s, key in enumerate(keys):
            norms = math.sqrt(sum(query**2)) * math.sqrt(sum(key**2))
            logits[t, s] *= strength[t] / norms if norms else 0.0
    return logits


def additive(queries, keys, params):
    """`v · tanh(q + k)` (Bahdanau et al. 2015, appendix A.1.2)."""
    queries, keys, params = (np.asarray(x, np.float64) for x in (queries, keys, params))
    logits = np.zeros((len(queries), len(keys)))
    for t, query in enumerate(queries):
        for s, key in enumerate(keys):
            logits[t, s] = sum(v * math.tanh(x) for v, x in zip(params, query + key, strict=True))
    return logits


def soft(logits, mask=None):
    """`[T, S]` to `[T, S]`; fully masked rows are zero."""
    logits = np.asarray(logits, np.float64)
    weights = np.zeros(logits.shape)
    for t, row in enumerate(logits):
        unmasked = [s for s in range(len(row)) if mask is None or mask[t, s]]
        for s in unmasked:
            weights[t, s] = math.exp(row[s] - max(row[unmasked]))
        if unmasked:
            weights[t] /= sum(weights[t])
    return weights


def local(logits, centers, length, half_width, gaussian):
    """Window weights `[T, S]` in a source of `length` positions (Luong et al. 2015, sec. 3.2)."""
    weights = np.zeros(np.shape(logits))
    for t, center in enumerate(np.asarray(centers, np.float64)):
        window = [s for s in range(length) if abs(s - round(center)) <= half_width]
        weights[t, window] = soft(np.asarray(logits)[None, t, window])[0]
        for s in window if gaussian else []:
            weights[t, s] *= math.exp(-((s - center) ** 2) / (2 * (half_width / 2) ** 2))
    return weights


def read(weights, values):
    """`[T, S]` and `[S, V]` to `[T, V]`."""
    weights, values = (np.asarray(x, np.float64) for x in (weights, values))
    contexts = np.zeros((len(weights), values.shape[1]))
    for t, row in enumerate(weights):
        for weight, value in zip(row, values, strict=True):
            contexts[t] += weight * value
    return contexts


def attend(queries, keys, values, mask=None):
    """Scaled dot-product attention."""
    return read(soft(scaled_dot(queries, keys), mask), values)


def gradient(function, x, step=1e-5):
    """Central differences of a scalar function at `x`."""
    x = np.array(x, np.float64)
    gradient = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        center = x[i]
        x[i] = center + step
        above = function(x)
        x[i] = center - step
        below = function(x)
        x[i] = center
        gradient[i] = (above - below) / (2 * step)
    return gradient


def cross_entropy(states, table, labels, valid, smoothing):
    """`[N, D]`, `[V, D]`, `[N]` and `[N]` to nats, summed over valid positions."""
    loss = 0.0
    for state, label, is_valid in zip(states, labels, valid, strict=True):
        if is_valid:
            logits = [float(np.dot(state, row)) for row in table]
            log_total = math.log(sum(math.exp(x) for x in logits))
            for v, x in enumerate(logits):
                target = smoothing / len(table) + (1 - smoothing) * (v == label)
                loss -= target * (x - log_total)
    return loss


def greedy(log_probs, limit, *, eos):
    """Greedy decoding to at most `limit` tokens, of which the last is EOS.

    `log_probs` maps a prefix to the log-probabilities of the next token.
    """
    sequence = ()
    while len(sequence) < limit - 1:
        sequence += (int(np.argmax(log_probs(sequence))),)
        if sequence[-1] == eos:
            return sequence
    return (*sequence, eos)


def beam_search(log_probs, limit, *, width, alpha, eos):
    """Hypotheses as (score, sequence), best first; `log_probs` as for `greedy`."""
    alive, finished = [(0.0, ())], []
    for position in range(limit):
        extended = [
            (total + x, (*sequence, token))
            for total, sequence in alive
            for token, x in enumerate(log_probs(sequence))
            if position < limit - 1 or token == eos
        ]
        best = sorted(extended, reverse=True)[: 2 * width]
        finished += [
            (length_normalized(x, len(y), alpha), y) for x, y in best[:width] if y[-1] == eos
        ]
        alive = [(x, y) for x, y in best if y[-1] != eos][:width]
        if len(finished) >= width:
            break
    return sorted(finished, reverse=True)[:width]


def length_normalized(log_prob, length, alpha):
    """Score of a hypothesis with the length penalty of Wu et al. 2016, eq. 14."""
    return log_prob / ((5 + length) / 6) ** alpha


def edit_distance(a, b):
    """Levenshtein distance of two sequences."""
    if not a or not b:
        return len(a) + len(b)
    return min(
        edit_distance(a[1:], b) + 1,
        edit_distance(a, b[1:]) + 1,
        edit_distance(a[1:], b[1:]) + (a[0] != b[0]),
    )


def address(memory, previous, key, strength, gate, shift, sharpness):
    """Weighting of one head over a memory `[N, M]` (Graves et al. 2014, eq. 5 to 9)."""
    count, radius = len(memory), len(shift) // 2
    exponentials = np.exp(content([key], memory, strength)[0])
    by_content = exponentials / sum(exponentials)
    gated = [gate * by_content[i] + (1 - gate) * previous[i] for i in range(count)]
    shifted = np.zeros(count)
    for i in range(count):
        for j in range(count):
            for n, s in enumerate(shift):
                if (j + n - radius) % count == i:
                    shifted[i] += gated[j] * s
    powers = shifted**sharpness
    return powers / sum(powers)


def write(memory, weights, erase, add):
    """`[N, M]`, `[H, N]`, `[H, M]` and `[H, M]` to `[N, M]` (Graves et al. 2014, eq. 3 and 4)."""
    memory = np.array(memory, np.float64)
    for w, e in zip(weights, erase, strict=True):
        for i in range(len(memory)):
            memory[i] *= 1 - w[i] * np.asarray(e, np.float64)
    for w, a in zip(weights, add, strict=True):
        for i in range(len(memory)):
            memory[i] += w[i] * np.asarray(a, np.float64)
    return memory
