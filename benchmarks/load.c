/* The load generator: many WebSocket clients in one thread, told what to do on standard input.
 *
 *   load PORT PATH [PUBLISH_PATH [HELLO [BEFORE [AFTER]]]]
 *
 * One line in, one line of JSON out:
 *   connect N          open N clients that receive
 *   connect-deaf N     open N clients that never read, with a small receive buffer
 *   publisher          open the client that publishes
 *   window W SECONDS   publish so that W publications are on their way at any time
 *   rate R SECONDS     publish R times a second, whether or not the server keeps up
 *   size BYTES         publish so much from now on, instead of 128 bytes
 *   recover N M ROOMS  open N clients, and wait until each has received what it missed: M publications
 *   idle SECONDS       do nothing but answer pings
 *   deaf               read now what the deaf clients were sent; tell the code of a close
 *   abandon            close every client at once, without a word
 *
 * A publication is BEFORE, a mark with its number and time, filler up to SIZE bytes, AFTER. HELLO
 * is sent by each client once it is open, for servers that want to be asked; a leading `!` makes
 * binary frames, `@` is the client's number modulo ROOMS (1 but for `recover`), and in all three `\n`
 * is a line end: CRLF in binary frames. Every mark that a client receives is counted, whatever it
 * is wrapped in: what is missing, doubled or out of order shows.
 *
 * While publications are on their way the thread polls without sleeping. Else the server would be
 * charged for waking it, and that costs as much as a send.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
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
#include <time.h>
#include <unistd.h>

enum { MARK = 26, MAX_SIZE = 65000, MAX_CLIENTS = 20000, MAX_PUBLISHED = 1 << 20 };
static const char ACCEPT[] = "Bz3qJYTGdOe8gUSpLosEdiLKDrk=";      /* the answer to the key in `ask` */

enum { GONE, CONNECTING, ASKED, OPEN };
enum { HEARS = 1, PUBLISHES = 2, DEAF = 4 };

typedef struct {
    int fd, state, kind, close_code;
    uint32_t next;          /* the number that this client should receive next */
    uint8_t *rest;          /* the start of a frame that is not there as a whole */
    size_t rest_size;
} Client;

static Client clients[MAX_CLIENTS];
static int count, hearing, opening, failed, closed, pinged, poller, port;
static const char *path, *publish_path;
static Client *publisher;

static char hello[256], before[256], after[256];
static int is_binary;
static uint8_t frame[MAX_SIZE + 1024];
static size_t frame_size, mark_at;

static uint32_t first, next_number;             /* the numbers of this phase */
static uint32_t received_by[MAX_PUBLISHED];     /* by how many clients each was received */
static uint64_t deliveries, complete, wrong, last_received;
static uint64_t latencies[64 * 64], samples;
static uint64_t recovering_since;               /* 0: nobody recovers */
static int rooms = 1;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Latencies in classes that are 1.6 % wide: exact below 64 ns, then 64 classes for each doubling. */
static void note_latency(uint64_t ns) {
    int shift = ns < 64 ? 0 : 58 - __builtin_clzll(ns);
    latencies[shift * 64 + (ns >> shift)]++;
    samples++;
}

static double latency_ms(double share) {
    uint64_t sum = 0, wanted = (uint64_t)(share * (double)samples);
    for (int i = 0; i < 64 * 64; i++)
        if ((sum += latencies[i]) > wanted) return (double)((uint64_t)(i % 64) << (i / 64)) / 1e6;
    return 0;
}

static uint64_t hex(const uint8_t *digits, int size) {
    uint64_t value = 0;
    for (int i = 0; i < size; i++)
        value = value << 4 | (digits[i] <= '9' ? digits[i] - '0' : digits[i] - 'a' + 10);
    return value;
}

static void send_all(Client *c, const void *data, size_t size) {
    while (size) {
        ssize_t sent = send(c->fd, data, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return;
        if (sent > 0) data = (const uint8_t *)data + sent, size -= (size_t)sent;
    }
}

/* A client's frame. The mask is zero, which leaves the payload as it is. */
static size_t make_frame(uint8_t *out, int opcode, const void *payload, size_t size) {
    size_t head = size < 126 ? 2 : 4;
    out[0] = (uint8_t)(0x80 | opcode);
    out[1] = (uint8_t)(0x80 | (size < 126 ? size : 126));
    if (head == 4) out[2] = (uint8_t)(size >> 8), out[3] = (uint8_t)size;
    memset(out + head, 0, 4);
    memcpy(out + head + 4, payload, size);
    return head + 4 + size;
}

static void drop(Client *c, int code) {
    if (c->state == GONE) return;
    if (c->state == OPEN) { closed++; if (c->kind & HEARS) hearing--; }
    else { opening--; failed++; }
    c->state = GONE;
    c->close_code = code;
    close(c->fd);
    free(c->rest);
    c->rest = NULL;
}

static void take_mark(Client *c, const uint8_t *mark, uint64_t at) {
    uint32_t number = (uint32_t)hex(mark + 2, 8);
    if (!(c->kind & HEARS) || number < first || number >= next_number) return;
    if (number != c->next) wrong++;             /* a gap, a double, or out of order */
    c->next = number + 1;
    deliveries++;
    last_received = at;
    if (!recovering_since) note_latency(at - hex(mark + 10, 16));
    else if (c->next == next_number) note_latency(at - recovering_since);
    if (++received_by[number - first] == (uint32_t)hearing) complete++;
}

static void take_frame(Client *c, const uint8_t *head, const uint8_t *payload, size_t size,
                       uint64_t at) {
    int opcode = head[0] & 15;
    if (opcode == 8) { drop(c, size >= 2 ? payload[0] << 8 | payload[1] : 1005); return; }
    if (opcode == 9) {
        uint8_t pong[140];
        pinged++;
        send_all(c, pong, make_frame(pong, 10, payload, size));
        return;
    }
    if (size == 1 && *payload == '2') {         /* Engine.IO pings in a message */
        uint8_t pong[16];
        send_all(c, pong, make_frame(pong, 1, "3", 1));
        return;
    }
    if (size == 2 && !memcmp(payload, "{}", 2)) {       /* so does the Centrifuge protocol */
        uint8_t pong[16];
        pinged++;
        send_all(c, pong, make_frame(pong, 1, "{}", 2));
        return;
    }
    for (const uint8_t *end = payload + size; (size_t)(end - payload) >= MARK; payload += MARK) {
        payload = memmem(payload, (size_t)(end - payload), "~#", 2);
        if (!payload || end - payload < MARK) return;
        take_mark(c, payload, at);
    }
}

/* Take the whole frames at the start of *data; how many bytes that were. */
static size_t take_frames(Client *c, const uint8_t *data, size_t size) {
    size_t used = 0;
    uint64_t at = now();
    while (c->state == OPEN && size - used >= 2) {
        const uint8_t *f = data + used;
        size_t head = 2, length = f[1] & 127;
        if (length >= 126) {
            size_t extended = length == 126 ? 2 : 8;
            if (size - used < (head += extended)) break;
            length = 0;
            for (size_t i = 0; i < extended; i++) length = length << 8 | f[2 + i];
        }
        if (size - used < head + length) break;
        take_frame(c, f, f + head, length, at);
        used += head + length;
    }
    return used;
}

static void say_hello(Client *c) {
    char said[300];
    uint8_t out[320];
    char *end = said;
    for (const char *in = hello; *in; in++)
        if (*in == '@') end += sprintf(end, "%d", (int)((c - clients) % rooms));
        else *end++ = *in;
    send_all(c, out, make_frame(out, is_binary ? 2 : 1, said, (size_t)(end - said)));
}

static size_t take_answer(Client *c, uint8_t *data, size_t size) {
    uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end) return 0;
    if (memcmp(data, "HTTP/1.1 101", 12) || !memmem(data, size, ACCEPT, sizeof ACCEPT - 1)) {
        drop(c, 0);
        return 0;
    }
    c->state = OPEN;
    c->next = recovering_since ? first : next_number;
    opening--;
    if (c->kind & HEARS) hearing++;
    if (*hello) say_hello(c);
    if (c->kind & DEAF) epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
    return (size_t)(end + 4 - data);
}

static void read_from(Client *c) {
    static uint8_t buffer[512 * 1024];
    size_t size = c->rest_size, used = 0;
    if (size) memcpy(buffer, c->rest, size);
    ssize_t got = recv(c->fd, buffer + size, sizeof buffer - size, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) { drop(c, 1006); return; }
    size += (size_t)got;
    if (c->state == ASKED) used = take_answer(c, buffer, size);
    if (c->state == OPEN && !(c->kind & DEAF))
        used += take_frames(c, buffer + used, size - used);
    if (c->state == GONE) return;
    c->rest_size = size - used;
    if (c->rest_size) {
        c->rest = realloc(c->rest, c->rest_size);
        memcpy(c->rest, buffer + used, c->rest_size);
    }
}

static void watch(Client *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event)) die("epoll_ctl");
}

static void ask(Client *c) {
    char request[512];
    int error = 0, size;
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) { drop(c, 0); return; }
    size = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        c->kind & PUBLISHES ? publish_path : path, port);
    c->state = ASKED;
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
    send_all(c, request, (size_t)size);
}

static void begin(int kind) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, small = 4096;
    if (count == MAX_CLIENTS) die("too many clients");
    Client *c = &clients[count++];
    *c = (Client){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), .kind = kind};
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (kind & DEAF) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (connect(c->fd, (void *)&to, sizeof to) && errno != EINPROGRESS) die("connect");
    c->state = CONNECTING;
    opening++;
    watch(c, EPOLL_CTL_ADD, EPOLLOUT);
    if (kind & PUBLISHES) publisher = c;
}

static void turn(int timeout_ms) {
    struct epoll_event events[512];
    int n = epoll_wait(poller, events, 512, timeout_ms);
    for (int i = 0; i < n; i++) {
        Client *c = events[i].data.ptr;
        if (c->state == CONNECTING) ask(c);
        else if (c->state != GONE) read_from(c);
    }
}

static void open_clients(int number, int kind) {
    uint64_t start = now(), end = start + 60000000000u;
    int left = number, failed_before = failed;
    while ((left || opening) && now() < end) {
        for (; left && opening < HANDSHAKES; left--) begin(kind);
        turn(10);
    }
    printf("{\"opened\": %d, \"failed\": %d, \"seconds\": %.4f}\n",
        number - left - opening - (failed - failed_before), failed - failed_before,
        (double)(now() - start) / 1e9);
}

static void recover(int number, int missed) {
    uint64_t start = now(), end = start + 90000000000u, wanted = (uint64_t)number * (uint64_t)missed;
    int left = number;
    recovering_since = start;
    next_number = (uint32_t)missed;
    while (deliveries < wanted && now() < end) {
        for (; left && opening < HANDSHAKES; left--) begin(HEARS);
        turn(10);
    }
    printf("{\"expected\": %llu, \"received\": %llu, \"out_of_order\": %llu, \"failed\": %d, "
        "\"seconds\": %.6f, \"p50_ms\": %.4f, \"p99_ms\": %.4f}\n",
        (unsigned long long)wanted, (unsigned long long)deliveries, (unsigned long long)wrong, failed,
        (double)(last_received - start) / 1e9, latency_ms(0.5), latency_ms(0.99));
}

static void publish(void) {
    char mark[MARK + 1];
    if (next_number - first == MAX_PUBLISHED) die("too many publications");
    snprintf(mark, sizeof mark, "~#%08x%016llx", next_number++, (unsigned long long)now());
    memcpy(frame + mark_at, mark, MARK);
    send_all(publisher, frame, frame_size);
}

/* At most *window publications under way (0: any number), at most *rate a second (0: any). */
static void run_phase(int window, double rate, double seconds) {
    uint64_t start = now(), end = start + (uint64_t)(seconds * 1e9), give_up;
    int closed_before = closed, audience = hearing;
    first = next_number;
    deliveries = complete = wrong = samples = 0;
    last_received = start;
    memset(latencies, 0, sizeof latencies);
    memset(received_by, 0, sizeof received_by);
    for (uint64_t t = start; t < end; t = now()) {
        uint64_t published = next_number - first;
        uint64_t due = rate > 0 ? (uint64_t)((double)(t - start) / 1e9 * rate) + 1 : UINT64_MAX;
        uint64_t room = window ? complete + (uint64_t)window : UINT64_MAX;
        while (published < due && published < room) publish(), published++;
        turn(0);
    }
    uint64_t published = next_number - first;
    give_up = now() + 5000000000u;
    while (complete < published && now() < give_up) {
        if (now() - last_received > 3000000000u) break;         /* nothing more comes */
        turn(0);
    }
    printf("{\"published\": %llu, \"expected\": %llu, \"received\": %llu, \"out_of_order\": %llu, "
        "\"closed\": %d, \"seconds\": %.6f, \"p50_ms\": %.4f, \"p99_ms\": %.4f}\n",
        (unsigned long long)published, (unsigned long long)published * (unsigned)audience,
        (unsigned long long)deliveries, (unsigned long long)wrong, closed - closed_before,
        (double)(last_received - start) / 1e9, latency_ms(0.5), latency_ms(0.99));
}

static void idle(double seconds) {
    int closed_before = closed, pinged_before = pinged;
    for (uint64_t end = now() + (uint64_t)(seconds * 1e9); now() < end;) turn(10);
    printf("{\"pinged\": %d, \"closed\": %d}\n", pinged - pinged_before, closed - closed_before);
}

static void hear_the_deaf(void) {
    int code = 0;
    uint64_t end = now() + 5000000000u;
    for (Client *c = clients; c < clients + count; c++) {
        if (!(c->kind & DEAF) || c->state != OPEN) continue;
        c->kind &= ~DEAF;
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
        while (c->state == OPEN && now() < end) turn(10);
        code = c->close_code;
    }
    printf("{\"close_code\": %d}\n", code);
}

static void abandon(void) {
    int left = 0;
    for (Client *c = clients; c < clients + count; c++)
        if (c->state != GONE) drop(c, 0), left++;
    printf("{\"left\": %d}\n", left);
}

/* The frame that is published; `publish` puts its number and time at the mark. */
static void prepare(size_t filled) {
    static char body[MAX_SIZE + 1000];
    size_t start = strlen(before), size = start + filled + strlen(after);
    memcpy(body, before, start);
    memset(body + start, 'x', filled);
    memcpy(body + start + filled, after, strlen(after));
    frame_size = make_frame(frame, is_binary ? 2 : 1, body, size);
    mark_at = frame_size - size + start;
    printf("{\"size\": %zu}\n", filled);
}

static void unescape(char *out, const char *in) {
    for (; *in; in++)
        if (in[0] == '\\' && in[1] == 'n') {
            if (is_binary) *out++ = '\r';
            *out++ = '\n', in++;
        } else *out++ = *in;
    *out = 0;
}

static void read_arguments(int argc, char **argv) {
    port = atoi(argv[1]);
    path = argv[2];
    publish_path = argc > 3 && *argv[3] ? argv[3] : path;
    if (argc > 4) is_binary = argv[4][0] == '!', unescape(hello, argv[4] + is_binary);
    if (argc > 5) unescape(before, argv[5]);
    if (argc > 6) unescape(after, argv[6]);
}

int main(int argc, char **argv) {
    struct rlimit files;
    char line[128];
    double number, seconds, missed;
    if (argc < 3) { fprintf(stderr, "load PORT PATH [...]: see the top of load.c\n"); return 2; }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    if ((poller = epoll_create1(0)) < 0) die("epoll_create1");
    read_arguments(argc, argv);
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "connect %lf", &number) == 1) open_clients((int)number, HEARS);
        else if (sscanf(line, "connect-deaf %lf", &number) == 1) open_clients((int)number, DEAF);
        else if (!strncmp(line, "publisher", 9)) open_clients(1, PUBLISHES);
        else if (sscanf(line, "window %lf %lf", &number, &seconds) == 2)
            run_phase((int)number, 0, seconds);
        else if (sscanf(line, "rate %lf %lf", &number, &seconds) == 2)
            run_phase(0, number, seconds);
        else if (sscanf(line, "size %lf", &number) == 1 && number >= MARK && number <= MAX_SIZE)
            prepare((size_t)number);
        else if (sscanf(line, "recover %lf %lf %d", &number, &missed, &rooms) == 3)
            recover((int)number, (int)missed);
        else if (sscanf(line, "idle %lf", &seconds) == 1) idle(seconds);
        else if (!strncmp(line, "deaf", 4)) hear_the_deaf();
        else if (!strncmp(line, "abandon", 7)) abandon();
        else printf("{\"error\": \"unknown command\"}\n");
        fflush(stdout);
    }
    return 0;
}
