/* EGL/egl.h, EGL/eglext.h, GLES3/gl3.h, GLES2/gl2ext.h: handles are numbers, as wide as pointers. */

void *eglGetProcAddress(const char *name);
int32_t eglGetError(void);
uintptr_t eglGetCurrentContext(void);
uintptr_t eglGetCurrentDisplay(void);
uintptr_t eglGetCurrentSurface(int32_t which);
uintptr_t eglGetDisplay(uintptr_t native);
uint32_t eglInitialize(uintptr_t display, int32_t *major, int32_t *minor);
const char *eglQueryString(uintptr_t display, int32_t name);
uint32_t eglBindAPI(uint32_t api);
uint32_t eglQueryAPI(void);
uintptr_t eglCreateContext(uintptr_t display, uintptr_t config, uintptr_t share, const int32_t *attributes);
uint32_t eglDestroyContext(uintptr_t display, uintptr_t context);
uint32_t eglMakeCurrent(uintptr_t display, uintptr_t draw, uintptr_t read, uintptr_t context);

typedef uintptr_t (*eglGetPlatformDisplayEXT)(uint32_t platform, uintptr_t native, const int32_t *attributes);
typedef uintptr_t (*eglCreateImageKHR)(uintptr_t display, uintptr_t context, uint32_t target, uintptr_t buffer, const int32_t *attributes);
typedef uint32_t (*eglDestroyImageKHR)(uintptr_t display, uintptr_t image);
typedef uint32_t (*eglQueryDmaBufFormatsEXT)(uintptr_t display, int32_t max, int32_t *formats, int32_t *count);
typedef uint32_t (*eglQueryDmaBufModifiersEXT)(uintptr_t display, int32_t format, int32_t max, uint64_t *modifiers, uint32_t *external_only, int32_t *count);
typedef uint32_t (*eglExportDMABUFImageQueryMESA)(uintptr_t display, uintptr_t image, int32_t *fourcc, int32_t *planes, uint64_t *modifiers);
typedef uint32_t (*eglExportDMABUFImageMESA)(uintptr_t display, uintptr_t image, int32_t *fds, int32_t *strides, int32_t *offsets);
typedef uintptr_t (*eglCreateSyncKHR)(uintptr_t display, uint32_t type, const int32_t *attributes);
typedef uint32_t (*eglDestroySyncKHR)(uintptr_t display, uintptr_t sync);
typedef int32_t (*eglWaitSyncKHR)(uintptr_t display, uintptr_t sync, int32_t flags);
typedef int32_t (*eglDupNativeFenceFDANDROID)(uintptr_t display, uintptr_t sync);

typedef uint32_t (*glGetError)(void);
typedef void (*glFlush)(void);
typedef void (*glGetIntegerv)(uint32_t name, int32_t *value);
typedef const char *(*glGetString)(uint32_t name);
typedef const char *(*glGetStringi)(uint32_t name, uint32_t index);
typedef void (*glGenTextures)(int32_t count, uint32_t *textures);
typedef void (*glDeleteTextures)(int32_t count, const uint32_t *textures);
typedef void (*glActiveTexture)(uint32_t unit);
typedef void (*glBindTexture)(uint32_t target, uint32_t texture);
typedef void (*glTexParameteri)(uint32_t target, uint32_t name, int32_t value);
typedef void (*glGetTexLevelParameteriv)(uint32_t target, int32_t level, uint32_t name, int32_t *value);
typedef void (*glEGLImageTargetTexture2DOES)(uint32_t target, uintptr_t image);
