/* flips FD CRTC PLANE FB_ID OUT_FENCE_PTR WIDTH HEIGHT COUNT: ns of processor time for each of COUNT
 *     flips: an atomic commit, poll(2) of its out-fence, and its event. FD is an inherited descriptor of
 *     a display whose mode is set to this size; FB_ID and OUT_FENCE_PTR are the properties' ids.
 */
#include <drm.h>
#include <drm_fourcc.h>
#include <drm_mode.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

static uint32_t framebuffer(int fd, uint32_t width, uint32_t height)
{
	struct drm_mode_create_dumb dumb = { .width = width, .height = height, .bpp = 32 };
	must(ioctl(fd, DRM_IOCTL_MODE_CREATE_DUMB, &dumb) == 0, "CREATE_DUMB");
	struct drm_mode_fb_cmd2 made = { .width = width, .height = height, .pixel_format = DRM_FORMAT_XRGB8888,
					 .handles = { dumb.handle }, .pitches = { dumb.pitch } };
	must(ioctl(fd, DRM_IOCTL_MODE_ADDFB2, &made) == 0, "ADDFB2");
	return made.fb_id;
}

int main(int argc, char **argv)
{
	uint32_t words[9] = { 0 };
	must(argc == 9, "usage: flips FD CRTC PLANE FB_ID OUT_FENCE_PTR WIDTH HEIGHT COUNT");
	for (int i = 1; i < argc; i++)
		words[i] = strtoul(argv[i], NULL, 10);
	int fd = words[1], count = words[8];
	uint32_t objects[] = { words[2], words[3] }, counts[] = { 1, 1 };
	uint32_t properties[] = { words[5], words[4] };
	uint32_t shown[2] = { framebuffer(fd, words[6], words[7]), framebuffer(fd, words[6], words[7]) };
	char events[4096];
	uint64_t start = 0;
	for (int round = -2; round < count; round++) {
		int32_t fence = -1;
		uint64_t values[] = { (uintptr_t)&fence, shown[round & 1] };
		struct drm_mode_atomic commit = {
			.flags = DRM_MODE_ATOMIC_NONBLOCK | DRM_MODE_PAGE_FLIP_EVENT, .count_objs = 2,
			.objs_ptr = (uintptr_t)objects, .count_props_ptr = (uintptr_t)counts,
			.props_ptr = (uintptr_t)properties, .prop_values_ptr = (uintptr_t)values,
		};
		if (round == 0)
			start = spent();
		must(ioctl(fd, DRM_IOCTL_MODE_ATOMIC, &commit) == 0, "ATOMIC");
		struct pollfd waiting = { .fd = fence, .events = POLLIN };
		must(poll(&waiting, 1, -1) == 1, "poll");
		close(fence);
		must(read(fd, events, sizeof events) > 0, "read");
	}
	printf("%llu\n", (unsigned long long)(spent() - start) / count);
	return 0;
}
