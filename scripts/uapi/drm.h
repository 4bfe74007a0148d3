/* include/uapi/drm/drm.h; its __kernel_size_t and pointers are as wide as a long */

struct drm_version {
    int version_major;
    int version_minor;
    int version_patchlevel;
    size_t name_len;
    char *name;
    size_t date_len;
    char *date;
    size_t desc_len;
    char *desc;
};
struct drm_get_cap { uint64_t capability; uint64_t value; };
struct drm_gem_close { uint32_t handle; uint32_t pad; };
struct drm_prime_handle { uint32_t handle; uint32_t flags; int32_t fd; };

/* include/uapi/drm/drm_mode.h */
struct drm_mode_create_dumb {
    uint32_t height;
    uint32_t width;
    uint32_t bpp;
    uint32_t flags;
    uint32_t handle;
    uint32_t pitch;
    uint64_t size;
};

/* include/uapi/drm/vgem_drm.h */
struct drm_vgem_fence_attach {
    uint32_t handle;
    uint32_t flags;
    uint32_t out_fence;
    uint32_t pad;
};
struct drm_vgem_fence_signal { uint32_t fence; uint32_t flags; };
