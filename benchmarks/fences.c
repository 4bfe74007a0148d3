/* Fences in C, on vgem: what the kernel itself costs.
 *
 * fences signal BUFFER: signals for another process. BUFFER is an inherited descriptor; for each byte
 *     on its input it attaches a fence and gives the byte back, waits 5 ms, so that the other one
 *     sleeps, signals, and writes when it did (8 bytes, CLOCK_MONOTONIC in ns). The device is its own:
 *     a DRM file that processes share waits for an RCU grace period when another one uses it.
 * fences latency ROUNDS: median time from a signal to the return of poll(2), in ns.
 * fences epoll COUNT: ns of processor time for each of COUNT fences that epoll waits for at once.
 * fences merge COUNT: ns of processor time for merging COUNT fences into one, as a tree.
 */
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/sync_file.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

/* include/uapi/drm/drm.h and vgem_drm.h, which need a package of their own */
struct drm_version {
	int version[3];
	size_t name_len;
	char *name;
	size_t date_len;
	char *date;
	size_t desc_len;
	char *desc;
};
struct drm_prime_handle { uint32_t handle, flags; int32_t fd; };
struct vgem_attach { uint32_t handle, flags, out_fence, pad; };
struct vgem_signal { uint32_t fence, flags; };
#define DRM_IOCTL_VERSION _IOWR('d', 0x00, struct drm_version)
#define DRM_IOCTL_PRIME_FD_TO_HANDLE _IOWR('d', 0x2e, struct drm_prime_handle)
#define VGEM_FENCE_ATTACH _IOWR('d', 0x41, struct vgem_attach)
#define VGEM_FENCE_SIGNAL _IOW('d', 0x42, struct vgem_signal)

static int vgem = -1, heap = -1;

static void find_vgem(void)
{
	for (int i = 0; i < 64 && vgem < 0; i++) {
		char path[64], name[32] = "";
		snprintf(path, sizeof path, "/dev/dri/renderD%d", 128 + i);
		int fd = open(path, O_RDWR | O_CLOEXEC);
		struct drm_version version = { .name = name, .name_len = sizeof name - 1 };
		if (fd >= 0 && ioctl(fd, DRM_IOCTL_VERSION, &version) == 0 && !strcmp(name, "vgem"))
			vgem = fd;
	}
	must(vgem >= 0, "no vgem");
}

static int allocate(void)
{
	if (heap < 0)
		heap = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
	must(heap >= 0, "/dev/dma_heap/system");
	struct dma_heap_allocation_data data = { .len = 4096, .fd_flags = O_RDWR | O_CLOEXEC };
	must(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) == 0, "DMA_HEAP_IOCTL_ALLOC");
	return data.fd;
}

static uint32_t attach(int buffer)
{
	struct drm_prime_handle prime = { .fd = buffer };
	must(ioctl(vgem, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime) == 0, "PRIME_FD_TO_HANDLE");
	struct vgem_attach fence = { .handle = prime.handle, .flags = 1 };
	must(ioctl(vgem, VGEM_FENCE_ATTACH, &fence) == 0, "VGEM_FENCE_ATTACH");
	return fence.out_fence;
}

static void signal_fence(uint32_t handle)
{
	struct vgem_signal fence = { .fence = handle };
	must(ioctl(vgem, VGEM_FENCE_SIGNAL, &fence) == 0, "VGEM_FENCE_SIGNAL");
}

static int export_fence(int buffer)
{
	struct dma_buf_export_sync_file data = { .flags = DMA_BUF_SYNC_READ };
	must(ioctl(buffer, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &data) == 0, "EXPORT_SYNC_FILE");
	return data.fd;
}

static void signal_for_others(int buffer, int in, int out)
{
	char byte;
	find_vgem();
	while (read(in, &byte, 1) == 1) {
		uint32_t handle = attach(buffer);
		must(write(out, &byte, 1) == 1, "write");
		usleep(5000);
		uint64_t then = now();
		signal_fence(handle);
		must(write(out, &then, sizeof then) == sizeof then, "write");
	}
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static uint64_t latency(long rounds)
{
	int there[2], back[2], buffer = allocate();
	must(pipe(there) == 0 && pipe(back) == 0, "pipe");
	if (fork() == 0) {
		close(there[1]);
		signal_for_others(buffer, there[0], back[1]);
		exit(0);
	}
	uint64_t *times = calloc(rounds, sizeof *times), then;
	for (long i = 0; i < rounds; i++) {
		char byte = 0;
		must(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1, "signaller");
		struct pollfd waiting = { .fd = export_fence(buffer), .events = POLLIN };
		must(poll(&waiting, 1, -1) == 1, "poll");
		uint64_t woken = now();
		must(read(back[0], &then, sizeof then) == sizeof then, "read");
		times[i] = woken - then;
		close(waiting.fd);
	}
	qsort(times, rounds, sizeof *times, compare);
	return times[rounds / 2];
}

static uint64_t wait_for_many(long count)
{
	find_vgem();
	int buffer = allocate(), set = epoll_create1(EPOLL_CLOEXEC);
	uint32_t handle = attach(buffer);
	int *fences = calloc(count, sizeof *fences);
	struct epoll_event *events = calloc(count, sizeof *events);
	for (long i = 0; i < count; i++)
		fences[i] = export_fence(buffer);
	uint64_t start = spent();
	for (long i = 0; i < count; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.fd = fences[i] };
		must(epoll_ctl(set, EPOLL_CTL_ADD, fences[i], &event) == 0, "epoll_ctl");
	}
	signal_fence(handle);
	for (long woken = 0; woken < count;) {
		int some = epoll_wait(set, events, count, -1);
		for (int i = 0; i < some; i++)
			epoll_ctl(set, EPOLL_CTL_DEL, events[i].data.fd, NULL);
		woken += some;
	}
	return (spent() - start) / count;
}

static int merge(const int *fences, long count)
{
	if (count == 1)
		return dup(fences[0]);
	int left = merge(fences, count / 2), right = merge(fences + count / 2, count - count / 2);
	struct sync_merge_data data = { .fd2 = right };
	must(ioctl(left, SYNC_IOC_MERGE, &data) == 0, "SYNC_IOC_MERGE");
	close(left);
	close(right);
	return data.fence;
}

static uint64_t merge_many(long count)
{
	find_vgem();
	int *fences = calloc(count, sizeof *fences);
	for (long i = 0; i < count; i++) {
		int buffer = allocate();
		attach(buffer);
		fences[i] = export_fence(buffer);
		close(buffer);
	}
	uint64_t start = spent();
	close(merge(fences, count));
	return spent() - start;
}

int main(int argc, char **argv)
{
	must(argc == 3, "usage: fences signal|latency|epoll|merge NUMBER");
	long number = strtol(argv[2], NULL, 10);
	struct rlimit files = { 1 << 16, 1 << 16 };
	must(setrlimit(RLIMIT_NOFILE, &files) == 0, "setrlimit");
	if (!strcmp(argv[1], "signal")) {
		signal_for_others(number, 0, 1);
		return 0;
	}
	uint64_t figure = !strcmp(argv[1], "latency") ? latency(number)
			: !strcmp(argv[1], "epoll")   ? wait_for_many(number)
						      : merge_many(number);
	printf("%llu\n", (unsigned long long)figure);
	return 0;
}
