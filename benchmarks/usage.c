/* Read what a scan reads: each descriptor's link, a dma-buf's status, fdinfo once a buffer, maps. */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static unsigned long *seen; /* inodes, by open addressing; 0 is none */
static size_t room = 1 << 18, buffers, references, mapped;

static int is_new(unsigned long inode)
{
    size_t at = inode * 0x9E3779B97F4A7C15u % room;
    while (seen[at] && seen[at] != inode)
        at = (at + 1) % room;
    if (seen[at])
        return 0;
    seen[at] = inode;
    return 1;
}

static void descriptors(int process)
{
    char link[4096], path[300], text[4096];
    struct stat status;
    int table = openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (table < 0)
        return;
    DIR *folder = fdopendir(table);
    for (struct dirent *entry; (entry = readdir(folder));) {
        ssize_t length = readlinkat(table, entry->d_name, link, sizeof link);
        if (length < 8 || memcmp(link, "/dmabuf:", 8) || fstatat(table, entry->d_name, &status, 0))
            continue;
        references++;
        if (is_new(status.st_ino)) {
            snprintf(path, sizeof path, "fdinfo/%s", entry->d_name);
            int file = openat(process, path, O_RDONLY | O_CLOEXEC);
            if (file >= 0 && read(file, text, sizeof text) > 0)
                buffers++;
            close(file);
        }
    }
    closedir(folder);
}

static void mappings(int process)
{
    static char text[1 << 22];
    size_t length = 0;
    ssize_t got;
    int file = openat(process, "maps", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    while (length < sizeof text - 1 && (got = read(file, text + length, sizeof text - 1 - length)) > 0)
        length += got;
    close(file);
    text[length] = 0;
    for (char *at = text; (at = strstr(at, "/dmabuf:")); at++)
        mapped++;
}

int main(int argc, char **argv)
{
    double best = 1e18;
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    seen = calloc(room, sizeof *seen);
    while (rounds--) {
        struct timespec start, end;
        memset(seen, 0, room * sizeof *seen);
        buffers = references = mapped = 0;
        clock_gettime(CLOCK_MONOTONIC, &start);
        DIR *folder = opendir("/proc");
        for (struct dirent *entry; (entry = readdir(folder));) {
            struct stat status;
            if (!isdigit(entry->d_name[0]))
                continue;
            int process = openat(dirfd(folder), entry->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
            if (process < 0)
                continue;
            fstatat(process, "task", &status, 0);
            descriptors(process);
            mappings(process);
            close(process);
        }
        closedir(folder);
        clock_gettime(CLOCK_MONOTONIC, &end);
        double time = (end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec);
        best = time < best ? time : best;
    }
    fprintf(stderr, "%zu buffers, %zu descriptors, %zu mappings\n", buffers, references, mapped);
    printf("%.0f\n", best);
}
