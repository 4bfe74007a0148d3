/* include/uapi/linux/{dma-buf,dma-heap,udmabuf,sync_file}.h, and libc */

struct dma_heap_allocation_data {
    uint64_t len;
    uint32_t fd;
    uint32_t fd_flags;
    uint64_t heap_flags;
};

struct dma_buf_sync { uint64_t flags; };
struct dma_buf_export_sync_file { uint32_t flags; int32_t fd; };
struct dma_buf_import_sync_file { uint32_t flags; int32_t fd; };

struct udmabuf_create {
    uint32_t memfd;
    uint32_t flags;
    uint64_t offset;
    uint64_t size;
};
struct udmabuf_create_item {
    uint32_t memfd;
    uint32_t __pad;
    uint64_t offset;
    uint64_t size;
};
struct udmabuf_create_list {
    uint32_t flags;
    uint32_t count;
    struct udmabuf_create_item list[];
};

struct sync_merge_data {
    char name[32];
    int32_t fd2;
    int32_t fence;
    uint32_t flags;
    uint32_t pad;
};
struct sync_fence_info {
    char obj_name[32];
    char driver_name[32];
    int32_t status;
    uint32_t flags;
    uint64_t timestamp_ns;
};
struct sync_file_info {
    char name[32];
    int32_t status;
    uint32_t flags;
    uint32_t num_fences;
    uint32_t pad;
    uint64_t sync_fence_info;
};
struct sync_set_deadline { uint64_t deadline_ns; uint64_t pad; };

/* drivers/dma-buf/sw_sync.c, which no header offers */
struct sw_sync_create_fence_data { uint32_t value; char name[32]; int32_t fence; };

/* The kernel writes f_type first; the rest is room for what no caller reads. */
struct statfs { long f_type; char rest[248]; };
int fstatfs(int fd, struct statfs *buf);
int fstatfs64(int fd, struct statfs *buf);
intptr_t mmap(void *addr, size_t length, int prot, int flags, int fd, long offset);
int ioctl(int fd, unsigned long request, void *argument);
long syscall(long number, long a, long b, long c, long d, long e);
/* Its own names are tv_sec and tv_nsec of it_interval and it_value. */
struct itimerspec { long interval_s; long interval_ns; long value_s; long value_ns; };
int timerfd_create(int clockid, int flags);
int timerfd_settime(int fd, int flags, const struct itimerspec *time, struct itimerspec *old);
