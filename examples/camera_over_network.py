"""The frames of a camera service on another machine, through Zenoh: `pip install eclipse-zenoh`.

`send` is a subscriber, and copies each frame once, into the message that leaves the machine.
`receive` copies it once, into a buffer of its machine, and publishes that: camera_client.py and
other subscribers run there unchanged, without a copy; a frame's message has its original number. If
the network is slower than the camera, frames are skipped before they are copied. There is no
discovery by multicast: `receive` listens at the endpoint, `send` connects to it.

    python examples/camera_over_network.py receive [--socket /tmp/remote.sock]
        [--endpoint tcp/127.0.0.1:7447]
    python examples/camera_over_network.py send [--socket /tmp/camera.sock]
        [--endpoint tcp/127.0.0.1:7447]
"""

from __future__ import annotations

import argparse
import json

import numpy
import zenoh

import dmabuf
from dmabuf.image import pixel_format
from dmabuf.share import Publisher, Subscriber

KEY = "camera/frames"


def configuration(role: str, endpoint: str) -> zenoh.Config:
    """Return what Zenoh is to do: one connection, or one place to listen at, and no more."""
    config = zenoh.Config()
    config.insert_json5("mode", '"peer"')
    config.insert_json5("listen/endpoints", json.dumps([endpoint] if role == "receive" else []))
    config.insert_json5("connect/endpoints", json.dumps([endpoint] if role == "send" else []))
    for way in ("multicast", "gossip"):
        config.insert_json5(f"scouting/{way}/enabled", "false")
    return config


def send(session: zenoh.Session, path: str) -> None:
    """Send each frame that the network can take, until the service ends."""
    wait = zenoh.CongestionControl.BLOCK
    with (
        session.declare_publisher(KEY, congestion_control=wait) as outgoing,
        Subscriber(path) as subscriber,
    ):
        print(f"sending {path}", flush=True)
        for frame in subscriber:
            with frame, frame.image.read() as planes:
                image = frame.image
                about = (image.format.name, image.width, image.height, frame.sequence)
                pixels = b"".join(map(numpy.ascontiguousarray, planes))  # the copy
            outgoing.put(pixels, attachment=json.dumps(about))


def receive(session: zenoh.Session, path: str) -> None:
    """Publish each frame that comes, until interrupted."""
    with Publisher(path) as publisher:

        def publish(sample: zenoh.Sample) -> None:
            try:
                image = unpacked(sample)
            except (ValueError, TypeError, OSError) as error:
                print(f"a message is no frame: {error}", flush=True)
            else:
                publisher.publish(image, message=sample.attachment.to_bytes())

        with session.declare_subscriber(KEY, publish):
            print(f"publishing at {path}", flush=True)
            while True:
                publisher.service(None)


def unpacked(sample: zenoh.Sample) -> dmabuf.Image:
    """Return a message's frame in a buffer; ValueError or TypeError if it has none."""
    if sample.attachment is None:
        raise ValueError("nothing says what it is")
    pixels = memoryview(sample.payload.to_bytes())
    name, width, height, _ = json.loads(sample.attachment.to_bytes())
    if pixel_format(name).size(width, height) != len(pixels):
        raise ValueError(f"{len(pixels)} bytes are no {width}x{height} of {name}")
    image = dmabuf.Image.allocate(name, width, height)
    with image.write() as planes:
        for plane in planes:
            part, pixels = pixels[: plane.nbytes], pixels[plane.nbytes :]
            plane[:] = numpy.frombuffer(part, plane.dtype).reshape(plane.shape)  # the copy
    return image


def main() -> None:
    """Take the options, and be one side."""
    parser = argparse.ArgumentParser(description="Bring a camera service to another machine.")
    parser.add_argument("role", choices=("send", "receive"))
    parser.add_argument("--socket", metavar="PATH", help="/tmp/camera.sock, or /tmp/remote.sock")
    parser.add_argument("--endpoint", default="tcp/127.0.0.1:7447")
    options = parser.parse_args()
    try:
        with zenoh.open(configuration(options.role, options.endpoint)) as session:
            if options.role == "send":
                send(session, options.socket or "/tmp/camera.sock")
            else:
                receive(session, options.socket or "/tmp/remote.sock")
    except KeyboardInterrupt:
        print("stopped")


if __name__ == "__main__":
    main()
