/* videodev2.h takes struct timeval from libc, which may lack 32 bits; the kernel has it too. */
#include <linux/time.h>
