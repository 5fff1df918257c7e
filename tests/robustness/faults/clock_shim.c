/* The wall clock as a file says: CLOCK_REALTIME is shifted by the seconds written in $CLOCK_SHIFT_FILE.
 *
 * What waits until a time of the wall clock is shifted back before the kernel is asked, as it would be if the
 * machine's clock had been set. CLOCK_MONOTONIC is as it was. Built with: cc -shared -fPIC -o clock_shim.so clock_shim.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define A_DATE 1000000000L /* Seconds: a time of the wall clock; the monotonic one is far below. */

static long shift(void) {
    char text[32];
    const char *path = getenv("CLOCK_SHIFT_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t length;

    if (file < 0)
        return 0;
    length = read(file, text, sizeof text - 1);
    close(file);
    if (length <= 0)
        return 0;
    text[length] = 0;
    return strtol(text, NULL, 10);
}

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);

    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += shift();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec precise;

    clock_gettime(CLOCK_REALTIME, &precise);
    if (result)
        *result = precise.tv_sec;
    return precise.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec shifted = *until;

    if (!real)
        real = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))next("pthread_cond_timedwait");
    if (shifted.tv_sec > A_DATE)
        shifted.tv_sec -= shift();
    return real(condition, mutex, &shifted);
}

/* Abseil, which gRPC waits with, asks the kernel for its futexes itself. */
long syscall(long number, ...) {
    static long (*real)(long, ...);
    va_list rest;
    long a[6];
    struct timespec shifted;

    va_start(rest, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(rest, long);
    va_end(rest);
    if (!real)
        real = (long (*)(long, ...))next("syscall");
    if (number == SYS_futex && (a[1] & FUTEX_CLOCK_REALTIME) && a[3]) {
        shifted = *(const struct timespec *)a[3];
        if (shifted.tv_sec > A_DATE) {
            shifted.tv_sec -= shift();
            a[3] = (long)&shifted;
        }
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
