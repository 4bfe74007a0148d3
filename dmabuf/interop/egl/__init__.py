"""Images as textures of OpenGL and OpenGL ES, and textures as images, without a copy.

    with dmabuf.interop.egl.Context(), dmabuf.interop.egl.import_image(frame.image) as imported:
        texture = imported.texture()  # its number, for PyOpenGL, moderngl, Qt, pygame

Needs libEGL 1.4 or later with EGL_EXT_image_dma_buf_import, and the GPU's driver.
"""

from dmabuf.interop.egl._formats import formats
from dmabuf.interop.egl.context import Context
from dmabuf.interop.egl.export import export_texture
from dmabuf.interop.egl.image import EglImage, import_image
from dmabuf.interop.egl.sync import fence, wait

__all__ = ["Context", "EglImage", "export_texture", "fence", "formats", "import_image", "wait"]
