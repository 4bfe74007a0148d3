"""How many times as long as another way each piece of work may take, at most."""

AIMS: dict[str, dict[str, float]] = {
    "empty write scope": {"bare": 2.5, "ctypes": 1.0},
    "write scope of an image": {"bare": 6},
    "array of 32 x 32": {"numpy": 10},
    "from_fd + close": {"bare": 6},
    "dmabuf.allocate, 4 KiB": {"Heap.allocate": 3},
    "allocate + map + close, 4 KiB": {"bare": 2.5},
    "wait, signalled": {"poll": 2.5},
    "merge 1,000 fences": {"fcntl": 1.5},
    "frame of 640x480": {"linuxpy": 0.9, "OpenCV": 0.9, "PyAV": 0.9, "GStreamer": 0.9},
    "frame of 1280x720": {"linuxpy": 0.9, "OpenCV": 0.9, "PyAV": 0.9, "GStreamer": 0.9},
    "flip": {"C": 5},
    "find devices, as a program": {"v4l2-ctl": 3, "modetest": 3},
}
