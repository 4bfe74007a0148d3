/* The same work in C: what the kernel itself costs. Usage: core SCENARIO SIZE ROUNDS
 * Prints nanoseconds a round.
 */
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

static int heap;
static volatile uint64_t sink;

static int allocate(uint64_t size)
{
	struct dma_heap_allocation_data data = { .len = size, .fd_flags = O_RDWR | O_CLOEXEC };
	must(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) == 0, "DMA_HEAP_IOCTL_ALLOC");
	return data.fd;
}

static void *map(int fd, uint64_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(memory != MAP_FAILED, "mmap");
	return memory;
}

static void synchronise(int fd, uint64_t flags)
{
	struct dma_buf_sync sync = { .flags = flags };
	must(ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync) == 0, "DMA_BUF_IOCTL_SYNC");
}

#ifdef __x86_64__
#define VECTORS __attribute__((optimize("O3", "no-tree-loop-distribute-patterns"), \
			       target_clones("avx2", "default")))
#else
#define VECTORS __attribute__((optimize("O3", "no-tree-loop-distribute-patterns")))
#endif

/* By loops: the memset of libc uses rep stosb, which an emulator does byte by byte. */
VECTORS static void fill(uint64_t *words, uint64_t count, uint64_t value)
{
	for (uint64_t i = 0; i < count; i++)
		words[i] = value;
}

VECTORS static uint64_t sum(const uint64_t *words, uint64_t count)
{
	uint64_t sum = 0;
	for (uint64_t i = 0; i < count; i++)
		sum += words[i];
	return sum;
}

int main(int argc, char **argv)
{
	must(argc == 4, "usage: core SCENARIO SIZE ROUNDS");
	const char *scenario = argv[1];
	uint64_t size = strtoull(argv[2], NULL, 10);
	long rounds = strtol(argv[3], NULL, 10);
	heap = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
	must(heap >= 0, "/dev/dma_heap/system");
	int fd = allocate(size);
	unsigned char *memory = map(fd, size);
	memset(memory, 1, size);
	uint64_t start = now();
	for (long round = 0; round < rounds; round++) {
		if (!strcmp(scenario, "scope")) {
			synchronise(fd, DMA_BUF_SYNC_WRITE | DMA_BUF_SYNC_START);
			synchronise(fd, DMA_BUF_SYNC_WRITE | DMA_BUF_SYNC_END);
		} else if (!strcmp(scenario, "allocate")) {
			int other = allocate(size);
			void *mapped = map(other, size);
			munmap(mapped, size);
			close(other);
		} else if (!strcmp(scenario, "fill")) {
			fill((uint64_t *)memory, size / 8, round);
		} else if (!strcmp(scenario, "sum")) {
			sink = sum((uint64_t *)memory, size / 8);
		} else {
			must(0, scenario);
		}
	}
	printf("%.1f\n", (double)(now() - start) / rounds);
	return 0;
}
