"""A camera's frames through a shader of moderngl, without a copy: from its buffers into ours.

The GPU reads each frame where the camera has put it, in YUV, and draws into a dma-heap buffer,
which a display, an encoder or another program can take. A fence in both buffers has whoever is next
wait until the GPU is done. Needs a camera, a GPU whose driver imports dma-bufs (Mesa's for the
processor does), moderngl 5.12 or later, and Linux 6.0.

    python examples/camera_through_shader.py [--frames 10] [--camera /dev/video0] shader.png
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from pathlib import Path

import moderngl

import dmabuf
from dmabuf import Access
from dmabuf.devices import v4l2
from dmabuf.interop import egl

# One triangle over all of the picture.
VERTICES = """#version 310 es
void main() {
    gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0);
}
"""
# What the camera sees, and below it the negative.
FRAGMENTS = """#version 310 es
#extension GL_OES_EGL_image_external_essl3 : require
precision highp float;
uniform highp samplerExternalOES frame;
uniform vec2 size;
out vec4 color;
void main() {
    vec2 place = gl_FragCoord.xy / size;
    vec4 seen = texture(frame, place);
    color = place.y < 0.5 ? seen : vec4(1.0 - seen.rgb, 1.0);
}
"""


def find_camera() -> str:
    """Return the first node that frames come from."""
    for node in sorted(Path("/dev").glob("video*")):
        about = v4l2.inspect(node)
        if about.capture and not about.m2m:
            return about.path
    raise SystemExit("no camera here: /dev/video* has none")


def run(camera: v4l2.Capture, context: egl.Context, count: int, path: str) -> None:
    """Draw `count` frames, save the last picture, and tell how that went."""
    moderngl.init_context(loader=context)
    opengl = moderngl.get_context()
    format = camera.set_format("YUYV", 640, 360)
    size = format.width, format.height
    program = opengl.program(vertex_shader=VERTICES, fragment_shader=FRAGMENTS)
    program["size"] = size
    triangle = opengl.vertex_array(program, [])
    with camera.stream(count=4) as frames, ExitStack() as stack:
        result = stack.enter_context(dmabuf.Image.allocate("XRGB8888", *size, stride_align=256))
        target = stack.enter_context(egl.import_image(result))
        canvas = opengl.external_texture(target.texture(), size, 4, 0, "f1")
        opengl.framebuffer([canvas]).use()
        imported: dict[dmabuf.Buffer, egl.EglImage] = {}  # the camera has the same few again
        begun = time.monotonic()
        for _, frame in zip(range(count), frames, strict=False):
            with frame:
                buffer = frame.buffers[0]
                if buffer not in imported:
                    imported[buffer] = stack.enter_context(egl.import_image(frame.image))
                imported[buffer].bind(0)
                triangle.render(vertices=3)
                with egl.fence() as drawn:
                    buffer.import_fence(drawn, Access.READ)
                    result.buffers[0].import_fence(drawn, Access.WRITE)
        rate = count / (time.monotonic() - begun)
        result.save(path)  # waits for the fence
        print(f"camera   {camera.device.path}, {camera.device.info.card}, {format.format}")
        print(f"GPU      {opengl.info['GL_RENDERER']}, OpenGL ES {opengl.version_code / 100}")
        print(f"result   {result}")
        print(f"rate     {rate:.1f} frames per second, without a copy")


def main() -> None:
    """Take the options, and run."""
    parser = argparse.ArgumentParser(description="Draw a camera's frames by a shader.")
    parser.add_argument("path", metavar="PICTURE")
    parser.add_argument("--frames", type=int, default=10, metavar="N")
    parser.add_argument("--camera", metavar="NODE", help="by default the first")
    options = parser.parse_args()
    with v4l2.Capture(options.camera or find_camera()) as camera, egl.Context() as context:
        run(camera, context, options.frames, options.path)


if __name__ == "__main__":
    main()
