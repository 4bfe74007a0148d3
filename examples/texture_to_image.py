"""PyOpenGL draws into a texture in the GPU's memory, which becomes an image without a copy.

The image can be shown, encoded, or sent to another program; here it is saved. Needs PyOpenGL and a
driver that exports textures, such as Mesa's.

    python examples/texture_to_image.py colours.png
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("PYOPENGL_PLATFORM", "egl")  # before it is imported

from OpenGL import GLES3 as GL

from dmabuf import Access
from dmabuf.interop import egl

WIDTH, HEIGHT = 320, 200
VERTICES = """#version 310 es
void main() {
    gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0);
}
"""
FRAGMENTS = f"""#version 310 es
precision highp float;
out vec4 color;
void main() {{
    color = vec4(gl_FragCoord.xy / vec2({WIDTH}.0, {HEIGHT}.0), 0.25, 1.0);
}}
"""


def build() -> int:
    """Return the program of both shaders."""
    program = GL.glCreateProgram()
    for kind, source in ((GL.GL_VERTEX_SHADER, VERTICES), (GL.GL_FRAGMENT_SHADER, FRAGMENTS)):
        shader = GL.glCreateShader(kind)
        GL.glShaderSource(shader, source)
        GL.glCompileShader(shader)
        if not GL.glGetShaderiv(shader, GL.GL_COMPILE_STATUS):
            raise SystemExit(GL.glGetShaderInfoLog(shader).decode())
        GL.glAttachShader(program, shader)
    GL.glLinkProgram(program)
    return int(program)


def draw() -> int:
    """Draw into a new texture, and return its number."""
    texture = GL.glGenTextures(1)
    GL.glBindTexture(GL.GL_TEXTURE_2D, texture)
    GL.glTexStorage2D(GL.GL_TEXTURE_2D, 1, GL.GL_RGBA8, WIDTH, HEIGHT)
    GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, GL.glGenFramebuffers(1))
    place = GL.GL_COLOR_ATTACHMENT0
    GL.glFramebufferTexture2D(GL.GL_FRAMEBUFFER, place, GL.GL_TEXTURE_2D, texture, 0)
    GL.glViewport(0, 0, WIDTH, HEIGHT)
    GL.glUseProgram(build())
    GL.glDrawArrays(GL.GL_TRIANGLES, 0, 3)
    return int(texture)


def main(path: str) -> None:
    """Draw, export, and save."""
    with egl.Context(), egl.export_texture(draw()) as image, egl.fence() as drawn:
        image.buffers[0].import_fence(drawn, Access.WRITE)
        image.save(path)  # waits for the fence
        print(f"image  {image}, in {image.buffers[0]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
