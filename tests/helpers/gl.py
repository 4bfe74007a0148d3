"""What the GPU sees, as PyOpenGL draws it in the context of OpenGL ES that is current."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy

from dmabuf.interop import egl

os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
os.environ["MESA_SHADER_CACHE_DISABLE"] = "true"  # a thread of it opens files

TEXTURE_2D, TEXTURE_EXTERNAL = 0x0DE1, 0x8D65

VERTICES = """#version 310 es
void main() {
    gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0);
}
"""
FRAGMENTS = """#version 310 es
#extension GL_OES_EGL_image_external_essl3 : require
precision highp float;
uniform highp SAMPLER frame;
uniform vec2 size;
out vec4 color;
void main() {
    color = texture(frame, gl_FragCoord.xy / size);
}
"""


def gl() -> Any:
    """Return PyOpenGL's functions of OpenGL ES; importing them takes seconds where emulated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves /proc/cpuinfo open
        from OpenGL import GLES3

    return GLES3


def _program(external: bool) -> int:
    es = gl()
    sampler = "samplerExternalOES" if external else "sampler2D"
    program = es.glCreateProgram()
    sources = ((es.GL_VERTEX_SHADER, VERTICES), (es.GL_FRAGMENT_SHADER, FRAGMENTS))
    for kind, source in sources:
        shader = es.glCreateShader(kind)
        es.glShaderSource(shader, source.replace("SAMPLER", sampler))
        es.glCompileShader(shader)
        assert es.glGetShaderiv(shader, es.GL_COMPILE_STATUS), es.glGetShaderInfoLog(shader)
        es.glAttachShader(program, shader)
        es.glDeleteShader(shader)
    es.glLinkProgram(program)
    assert es.glGetProgramiv(program, es.GL_LINK_STATUS), es.glGetProgramInfoLog(program)
    return int(program)


def new_texture(width: int, height: int) -> int:
    """Return a texture of the GPU's own memory: RGBA, 8 bits each."""
    es = gl()
    texture = es.glGenTextures(1)
    es.glBindTexture(TEXTURE_2D, texture)
    es.glTexStorage2D(TEXTURE_2D, 1, es.GL_RGBA8, width, height)
    es.glTexParameteri(TEXTURE_2D, es.GL_TEXTURE_MIN_FILTER, es.GL_NEAREST)
    es.glBindTexture(TEXTURE_2D, 0)
    return int(texture)


def delete_texture(texture: int) -> None:
    """Delete one texture."""
    gl().glDeleteTextures(1, [texture])


@contextlib.contextmanager
def drawing_into(texture: int, width: int, height: int) -> Iterator[None]:
    """Have what is drawn go into a texture."""
    es = gl()
    framebuffer = es.glGenFramebuffers(1)
    es.glBindFramebuffer(es.GL_FRAMEBUFFER, framebuffer)
    try:
        place = es.GL_COLOR_ATTACHMENT0
        es.glFramebufferTexture2D(es.GL_FRAMEBUFFER, place, TEXTURE_2D, texture, 0)
        complete = es.glCheckFramebufferStatus(es.GL_FRAMEBUFFER)
        assert complete == es.GL_FRAMEBUFFER_COMPLETE, hex(complete)
        es.glViewport(0, 0, width, height)
        yield
    finally:
        es.glBindFramebuffer(es.GL_FRAMEBUFFER, 0)
        es.glDeleteFramebuffers(1, [framebuffer])


def clear(texture: int, width: int, height: int, color: tuple[float, ...]) -> None:
    """Fill a texture with one colour."""
    es = gl()
    with drawing_into(texture, width, height):
        es.glClearColor(*color)
        es.glClear(es.GL_COLOR_BUFFER_BIT)


def draw(imported: egl.EglImage, target: int | None = None) -> None:
    """Draw an image pixel by pixel into what is drawn into."""
    es = gl()
    texture = imported.texture(target)
    external = target == TEXTURE_EXTERNAL or (target is None and imported.format.model == "YUV")
    bound = TEXTURE_EXTERNAL if external else TEXTURE_2D
    program = _program(external)
    es.glUseProgram(program)
    es.glUniform2f(es.glGetUniformLocation(program, "size"), *imported.size)
    es.glBindTexture(bound, texture)
    es.glDrawArrays(es.GL_TRIANGLES, 0, 3)
    es.glBindTexture(bound, 0)
    es.glUseProgram(0)
    es.glDeleteProgram(program)


def look(imported: egl.EglImage, target: int | None = None) -> numpy.ndarray:
    """Return what the GPU sees of an image, as (height, width, 3) of bytes."""
    es = gl()
    width, height = imported.size
    seen = new_texture(width, height)
    pixels = numpy.empty((height, width, 4), "u1")
    try:
        with drawing_into(seen, width, height):
            draw(imported, target)
            es.glReadPixels(0, 0, width, height, es.GL_RGBA, es.GL_UNSIGNED_BYTE, pixels)
    finally:
        delete_texture(seen)
    return pixels[..., :3]
