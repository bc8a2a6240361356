"""The equations of the decoders in NumPy, one sentence and one target position at a time."""

import numpy as np

from tests.models.seq2seq.tiny import HIDDEN


def value(weight):
    return np.asarray(weight[...])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


# Logits [S] of a state s over annotations h [S, M]; `layer` holds the parameters.
SCORES = {
    "content": lambda layer, s, h: (
        abs(value(layer.key_strength)) * h @ s / (np.linalg.norm(h, axis=-1) * np.linalg.norm(s))
    ),
    "additive": lambda layer, s, h: (
        np.tanh(s @ value(layer.query) + h @ value(layer.key)) @ value(layer.vector)
    ),
    "location": lambda layer, s, h: value(layer.location)[: len(h)] @ s,
    "general": lambda layer, s, h: h @ value(layer.key) @ s,
    "dot": lambda layer, s, h: h @ s,
    "scaled_dot": lambda layer, s, h: h @ s / np.sqrt(len(s)),
}


def context(layer, s, h):
    """Compute `sum_j alpha_ij h_j`."""
    return softmax(SCORES[layer.score](layer, s, h)) @ h


def rnnsearch(model, y, h, s_0):
    """Compute t_i of Bahdanau et al. 2015, app. A.1.1, A.1.2 and A.2.2.

    Args:
        model: an `RNNsearch`.
        y: E y_{i-1}, embeddings of the shifted targets, [T, D].
        h: annotations, [S, M].
        s_0: initial state, [H].
    """
    w_z, w_r, w = np.split(value(model.cell.input), 3, axis=-1)
    b_z, b_r, b = np.split(value(model.cell.bias), 3)
    u_z, u_r = np.split(value(model.cell.gates), 2, axis=-1)
    u = value(model.cell.candidate)
    c_z, c_r, c = np.split(value(model.context), 3, axis=-1)
    u_o, v_o, c_o = np.split(value(model.readout), [HIDDEN, HIDDEN + y.shape[-1]])
    s, outputs = s_0, []
    for y_prev in y:
        c_i = context(model.attention_layer, s, h)
        t_tilde = s @ u_o + y_prev @ v_o + c_i @ c_o + value(model.readout_bias)
        outputs.append(np.maximum(t_tilde[::2], t_tilde[1::2]))
        z = sigmoid(y_prev @ w_z + s @ u_z + c_i @ c_z + b_z)
        r = sigmoid(y_prev @ w_r + s @ u_r + c_i @ c_r + b_r)
        candidate = np.tanh(y_prev @ w + (r * s) @ u + c_i @ c + b)
        s = (1 - z) * s + z * candidate
    return np.stack(outputs)


def luong(model, y, h, initial_state):
    """Compute h~_t of Luong et al. 2015, eq. 5 and sec. 3.3, with LSTMs of Zaremba et al. 2014.

    Args:
        model: a `Luong`.
        y: embeddings of the shifted targets, [T, D].
        h: annotations, [S, M].
        initial_state: hidden and cell state of each layer, concatenated.
    """
    states = initial_state.reshape(len(model.layers), 2, HIDDEN)
    h_tilde, outputs = np.zeros(HIDDEN), []
    for x in y:
        new_states = []
        for n, (layer, (hidden, cell)) in enumerate(zip(model.layers, states, strict=True)):
            gates = x @ value(layer.input) + hidden @ value(layer.recurrent)
            if model.feed is not None and n == 0:
                gates = gates + h_tilde @ value(model.feed)
            i, f, o, g = np.split(gates + value(layer.bias), 4)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            x = sigmoid(o) * np.tanh(cell)
            new_states.append((x, cell))
        c_t = context(model.attention_layer, x, h)
        h_tilde = np.tanh(np.concatenate([c_t, x]) @ value(model.combine))
        states = new_states
        outputs.append(h_tilde)
    return np.stack(outputs)
