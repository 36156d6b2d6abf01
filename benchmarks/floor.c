/* The floor: a WebSocket server that does nothing but what fan-out cannot do without.
 *
 *   floor PORT         one send(2) for each client and message
 *   floor PORT join    messages that were read in one turn leave in one send(2) for each client
 *
 * Whatever any client sends is sent to all. No limits, no checks, no slow clients: one whose
 * socket is full is let go. The answer to the handshake is the one to the key that load.c sends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static const char ANSWER[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: Bz3qJYTGdOe8gUSpLosEdiLKDrk=\r\n\r\n";

typedef struct Client Client;
struct Client {
    int fd, place, is_open;
    uint8_t *rest;
    size_t rest_size;
};

static Client *clients[20000];
static int count, poller, joins;
static uint8_t joined[1 << 20];
static size_t joined_size;

static void drop(Client *c) {
    if (c->fd < 0) return;
    close(c->fd);
    c->fd = -1;
    clients[c->place] = clients[--count];
    clients[c->place]->place = c->place;
    free(c->rest);
    c->rest = NULL;         /* the rest of it leaks: the loop may still have an event of it */
}

static void flush(void) {
    for (int i = count - 1; i >= 0 && joined_size; i--)
        if (clients[i]->is_open
            && send(clients[i]->fd, joined, joined_size, MSG_NOSIGNAL) != (ssize_t)joined_size)
            drop(clients[i]);
    joined_size = 0;
}

static void send_to_all(const uint8_t *payload, size_t size) {
    if (joined_size + size + 4 > sizeof joined) flush();
    uint8_t *out = joined + joined_size;
    size_t head = size < 126 ? 2 : 4;
    out[0] = 0x81;
    out[1] = (uint8_t)(size < 126 ? size : 126);
    if (head == 4) out[2] = (uint8_t)(size >> 8), out[3] = (uint8_t)size;
    memcpy(out + head, payload, size);
    joined_size += head + size;
    if (!joins) flush();
}

/* Take what is there as a whole; how many bytes that was. */
static size_t take(Client *c, uint8_t *data, size_t size) {
    size_t used = 0;
    if (!c->is_open) {
        uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
        if (!end) return 0;
        send(c->fd, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL);
        c->is_open = 1;
        used = (size_t)(end + 4 - data);
    }
    while (c->fd >= 0 && size - used >= 8) {
        uint8_t *f = data + used;
        size_t head = 6, length = f[1] & 127;
        if (length == 126) head = 8, length = (size_t)f[2] << 8 | f[3];
        if (size - used < head + length) break;
        if ((f[0] & 15) == 8) { drop(c); break; }
        for (size_t i = 0; i < length; i++) f[head + i] ^= f[head - 4 + i % 4];
        if ((f[0] & 15) < 8) send_to_all(f + head, length);
        used += head + length;
    }
    return used;
}

static void read_from(Client *c) {
    static uint8_t buffer[256 * 1024];
    if (c->fd < 0) return;
    size_t size = c->rest_size;
    if (size) memcpy(buffer, c->rest, size);
    ssize_t got = recv(c->fd, buffer + size, sizeof buffer - size, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) { drop(c); return; }
    size += (size_t)got;
    size_t used = take(c, buffer, size);
    if (c->fd < 0) return;
    if ((c->rest_size = size - used)) {
        c->rest = realloc(c->rest, c->rest_size);
        memcpy(c->rest, buffer + used, c->rest_size);
    } else {
        free(c->rest);
        c->rest = NULL;
    }
}

static void accept_all(int listener) {
    int fd, one = 1;
    while (count < 20000 && (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        Client *c = calloc(1, sizeof *c);
        *c = (Client){.fd = fd, .place = count};
        clients[count++] = c;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(int argc, char **argv) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct rlimit files;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    if (argc < 2) { fprintf(stderr, "floor PORT [join]\n"); return 2; }
    at.sin_port = htons((uint16_t)atoi(argv[1]));
    joins = argc > 2;
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 4096)) {
        perror("floor");
        return 1;
    }
    poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct epoll_event events[512];
        int n = epoll_wait(poller, events, 512, -1);
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr) read_from(events[i].data.ptr);
            else accept_all(listener);
        flush();
    }
}
