"""The streaming benchmark runs, and finds no waiting where steps take longer than reading."""

from benchmarks.streaming import Epoch, make_set, on_the_device, read_speed, streamed, table
from configs import flare_drivaerml_1m


def test_epochs_are_timed(tmp_path):
    config = flare_drivaerml_1m.get_config("smoke")
    config.data.points_per_step = 256
    config.model.num_blocks, config.model.channel_dim, config.model.num_heads = 1, 8, 2
    for part in ("k_proj", "v_proj", "ffn", "in_out_proj"):
        config.model[f"num_layers_{part}"] = 0
    config.train.epochs, config.train.batch_size = 4, 2
    dataset, _ = make_set("drivaerml_10k", tmp_path, 5)
    assert len(dataset.train) == 4
    assert dataset.train.x.shape == (4, 10_000, 3)
    device_seconds = on_the_device(config, dataset, samples=2, repeats=1)
    epochs, compile_seconds = streamed(config, dataset, 2)
    assert [epoch.label for epoch in epochs] == ["from the file cache"] * 2 + ["from disk"] * 2
    assert all(epoch.step_seconds > 0 and 0 <= epoch.waited <= 1 for epoch in epochs)
    assert device_seconds > 0
    assert compile_seconds > 0
    assert read_speed(dataset, 2) > 0
    again, _ = make_set("drivaerml_10k", tmp_path, 5)
    assert again.fingerprint() == dataset.fingerprint()


def test_table_compares_with_the_device():
    rows = table([Epoch("from disk", 0.03, 0.25)], 0.02)
    assert rows == [("on the device", "20.00", "1.00", "-"), ("from disk", "30.00", "1.50", "25.00 %")]
