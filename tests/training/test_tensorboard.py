"""Events for TensorBoard can be read back: metrics, config, samples, attention and figures."""

import contextlib
import io
import struct

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from tasks.attention_maps import AttentionMap, Tokens
from tests import toy
from tests.training.runs import assert_trees_equal, restore, toy_config
from training import learning_curve, metric_writer
from training.loop import fit


def read_events(directory):
    (path,) = directory.iterdir()
    content, events = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return events


def test_tensorboard_events_are_written(tmp_path):
    writer = metric_writer.MetricWriter(str(tmp_path), 3)
    writer.write(4, 1.0, {"loss": 2.5})
    writer.write(4, 1.0, {"dev/bleu": 30.0})
    writer.write_figure("learning_curve", learning_curve.plot(writer.lines), 4)
    writer.close()
    first, start, *others = read_events(tmp_path / "tensorboard")
    assert first.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (4, SessionLog.START)
    values = [(event.step, *event.summary.value) for event in others]
    assert [(n, value.tag) for n, value in values] == [
        (4, "train/loss"),
        (4, "dev/bleu"),
        (4, "learning_curve"),
    ]
    assert [values[0][1].simple_value, values[1][1].simple_value] == [2.5, 30.0]


def test_full_disk_of_tensorboard_events_is_an_error_of_the_calling_thread(tmp_path, monkeypatch):
    file = open("/dev/full", "wb")  # noqa: SIM115 - closing it raises an error
    monkeypatch.setattr("tensorboardX.record_writer.open_file", lambda path: file)
    writer = metric_writer.MetricWriter(str(tmp_path), 0)
    metrics = {f"metric {i}": 1.0 for i in range(1000)}
    with pytest.raises(OSError, match="No space left on device"):
        writer.write(1, 0.0, metrics)
    for close in (writer.close, file.close):
        with contextlib.suppress(OSError):
            close()


def read_hparams(value):
    assert value.metadata.plugin_data.plugin_name == "hparams"
    return HParamsPluginData.FromString(value.metadata.plugin_data.content)


def test_config_is_written_for_the_hparams_plugin(tmp_path):
    writer = metric_writer.MetricWriter(str(tmp_path), 0)
    config = {"seed": 3, "model.norm": "pre", "mask": True, "data.sizes": [5, 10], "dir": None}
    writer.write_config(config, ["dev/bleu"])
    writer.close()
    experiment, start = (x.summary.value[0] for x in read_events(tmp_path / "tensorboard")[2:])
    assert (experiment.tag, start.tag) == ("_hparams_/experiment", "_hparams_/session_start_info")
    fields = read_hparams(experiment).experiment
    assert [info.name for info in fields.hparam_infos] == list(config)
    assert [info.name.tag for info in fields.metric_infos] == ["dev/bleu"]
    values = read_hparams(start).session_start_info.hparams
    assert {key: value.WhichOneof("kind") for key, value in values.items()} == {
        "seed": "number_value",
        "model.norm": "string_value",
        "mask": "bool_value",
        "data.sizes": "string_value",
        "dir": "string_value",
    }
    assert (values["seed"].number_value, values["data.sizes"].string_value) == (3.0, "[5, 10]")


class ToyWithAttention(toy.Toy):
    """Toy task with two attention maps of a first example, and one of another."""

    def __init__(self, config):
        super().__init__(config)
        self.shown = []  # the parameters whose maps are computed

    def attention_maps(self, state, inputs=None):
        self.shown.append(state.params)
        axis = Tokens("tokens", "ab")
        named = [("first", "encoder"), ("first", "cross"), ("second", "encoder")]
        return [AttentionMap(*names, np.full((1, 2, 2, 2), 0.5), axis, axis) for names in named]


def test_every_evaluation_writes_samples_and_attention_once(tmp_path):
    config = toy_config(train__steps=10, train__eval_every=5, train__checkpoint_every=5)
    task = ToyWithAttention(config)
    fit(task, config, str(tmp_path))
    assert len(task.shown) == 2
    assert_trees_equal(task.shown[1], restore(tmp_path, config, "average").state.params)
    page = (tmp_path / "figures/attention.html").read_text()
    assert all(f'"example":"{name}"' in page for name in ("first", "second"))
    values = [
        (event.step, value)
        for event in read_events(tmp_path / "tensorboard")
        for value in event.summary.value
    ]
    hparams = [read_hparams(value) for _, value in values if value.tag.startswith("_hparams_/")]
    keys = set(hparams[1].session_start_info.hparams)
    assert {"train.steps", "model.width"} < keys and not any("paper" in key for key in keys)
    texts = [(n, x.tensor.string_val) for n, x in values if x.tag == "samples/text_summary"]
    assert texts == [(n, [b"    a sample of the toy task"]) for n in (5, 10)]
    images = [(n, x.tag) for n, x in values if x.tag.startswith("attention/")]
    assert images == [(n, f"attention/{x}") for n in (5, 10) for x in ("encoder", "cross")]


def test_attention_weights_are_tiles_of_squares(tmp_path):
    weights = np.zeros((2, 3, 40, 5), np.float32)
    weights[1, 2, 39, 0] = 1.0
    writer = metric_writer.MetricWriter(str(tmp_path), 0)
    writer.write_weights("attention/cross", weights, 7)
    writer.close()
    event = read_events(tmp_path / "tensorboard")[-1]
    pixels = np.asarray(
        Image.open(io.BytesIO(event.summary.value[0].image.encoded_image_string)), int
    )
    gap = metric_writer.GAP
    assert pixels.shape == (2 * 120 + gap, 3 * 15 + 2 * gap, 3)  # squares of 3 pixels
    bright = pixels.sum(-1) > 600
    bright[120 : 120 + gap] = bright[:, 15 : 15 + gap] = bright[:, 30 + gap : 30 + 2 * gap] = False
    y, x = np.nonzero(bright)
    assert (y.min(), y.max(), x.min(), x.max()) == (241, 243, 38, 40)
    assert len(y) == 9
