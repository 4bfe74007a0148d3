/* frames NODE COUNT: ns of processor time for each of COUNT frames of a camera, in its own buffers:
 *     poll, DQBUF, the sum of each second byte (the luma of YUYV) and QBUF. The format is set.
 */
#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { SLOTS = 4 };
static volatile uint64_t sink;

int main(int argc, char **argv)
{
	must(argc == 3, "usage: frames NODE COUNT");
	int fd = open(argv[1], O_RDWR | O_CLOEXEC), type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
	long count = atol(argv[2]);
	struct v4l2_requestbuffers request = { .count = SLOTS, .type = type, .memory = V4L2_MEMORY_MMAP };
	uint8_t *memory[SLOTS];
	must(fd >= 0 && ioctl(fd, VIDIOC_REQBUFS, &request) == 0, argv[1]);
	for (unsigned i = 0; i < SLOTS; i++) {
		struct v4l2_buffer buffer = { .index = i, .type = type, .memory = V4L2_MEMORY_MMAP };
		must(ioctl(fd, VIDIOC_QUERYBUF, &buffer) == 0, "VIDIOC_QUERYBUF");
		memory[i] = mmap(NULL, buffer.length, PROT_READ, MAP_SHARED, fd, buffer.m.offset);
		must(memory[i] != MAP_FAILED, "mmap");
		must(ioctl(fd, VIDIOC_QBUF, &buffer) == 0, "VIDIOC_QBUF");
	}
	must(ioctl(fd, VIDIOC_STREAMON, &type) == 0, "VIDIOC_STREAMON");
	uint64_t start = 0;
	for (long round = -2; round < count; round++) {
		struct pollfd waiting = { .fd = fd, .events = POLLIN };
		struct v4l2_buffer buffer = { .type = type, .memory = V4L2_MEMORY_MMAP };
		if (round == 0)
			start = spent();
		must(poll(&waiting, 1, -1) == 1, "poll");
		must(ioctl(fd, VIDIOC_DQBUF, &buffer) == 0, "VIDIOC_DQBUF");
		uint64_t sum = 0;
		for (uint32_t i = 0; i < buffer.bytesused; i += 2)
			sum += memory[buffer.index][i];
		sink = sum;
		must(ioctl(fd, VIDIOC_QBUF, &buffer) == 0, "VIDIOC_QBUF");
	}
	printf("%llu\n", (unsigned long long)(spent() - start) / count);
	return 0;
}
