/* Hand-over and back in C: what the kernel itself costs.
 *
 * sharing SIZE CHILDREN ROUNDS: ns for one buffer of SIZE bytes that goes to CHILDREN processes by
 *     messages of SOCK_SEQPACKET and comes back from all. Each has had its descriptor before, has
 *     it mapped, and reads one byte between SYNC START and END.
 */
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { MOST = 64 };

static void require(int holds, const char *what)
{
	if (!holds) {
		perror(what);
		exit(1);
	}
}

static int allocate(uint64_t size)
{
	struct dma_heap_allocation_data data = { .len = size, .fd_flags = O_RDWR | O_CLOEXEC };
	int heap = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
	require(heap >= 0 && ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) == 0, "system heap");
	close(heap);
	return data.fd;
}

static void bracket(int buffer, uint64_t flags)
{
	struct dma_buf_sync sync = { .flags = flags };
	require(ioctl(buffer, DMA_BUF_IOCTL_SYNC, &sync) == 0, "DMA_BUF_IOCTL_SYNC");
}

static void consume(int sock, int buffer, size_t size)
{
	volatile char *memory = mmap(NULL, size, PROT_READ, MAP_SHARED, buffer, 0);
	char message[16];
	require(memory != MAP_FAILED, "mmap");
	while (recv(sock, message, sizeof message, 0) > 0) {
		bracket(buffer, DMA_BUF_SYNC_READ | DMA_BUF_SYNC_START);
		message[0] = memory[0];
		bracket(buffer, DMA_BUF_SYNC_READ | DMA_BUF_SYNC_END);
		require(send(sock, message, sizeof message, 0) > 0, "send");
	}
	exit(0);
}

int main(int count, char **words)
{
	size_t size = count > 3 ? strtoull(words[1], NULL, 0) : 0;
	int children = size ? atoi(words[2]) : 0, rounds = size ? atoi(words[3]) : 0;
	int socks[MOST], pair[2], buffer = allocate(size);
	char message[16] = { 0 };
	uint64_t start = 0;

	require(children > 0 && children <= MOST && rounds > 0, "usage: sharing SIZE CHILDREN ROUNDS");
	for (int i = 0; i < children; i++) {
		require(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0, "socketpair");
		socks[i] = pair[0];
		if (fork() == 0) {
			for (int j = 0; j <= i; j++)
				close(socks[j]);
			consume(pair[1], buffer, size);
		}
		close(pair[1]);
	}
	for (int round = -2; round < rounds; round++) { /* the first ones map the memory */
		if (round == 0)
			start = now();
		for (int i = 0; i < children; i++)
			require(send(socks[i], message, sizeof message, 0) > 0, "send");
		for (int i = 0; i < children; i++)
			require(recv(socks[i], message, sizeof message, 0) > 0, "recv");
	}
	printf("%llu\n", (unsigned long long)(now() - start) / rounds);
	return 0;
}
