/* A crowd: many WebSocket clients in one thread that number what they say and check what they hear.
 *
 *   crowd PORT PATH [ROOMS]
 *
 * With ROOMS above 1, client i uses PATH/(i mod ROOMS); who shares a path hears each other. One line
 * in, one line of JSON out; whatever was asked for before goes on meanwhile:
 *   connect N        open N more clients
 *   talk R           R messages a second from now on, each client in its turn; 0: be silent
 *   settle           be silent until everybody has heard everything, 10 s at most; then talk on
 *   newcomers R      R times a second a new client comes, hears one message of the talk and leaves
 *   return PORT      who is closed from now on comes back at once, to PORT; 0: stays away
 *   port PORT        whoever connects from now on does so here
 *   report           what has happened since the last report
 *   leave            close every client in order; who is not answered in 5 s is counted as cut
 *
 * A message is `~#`, the number of the client that says it and its own number of it, 8 digits each.
 * From what every client hears of every other follows what was lost, doubled or out of order, and
 * whether all of a room have heard the same in the same order. A pause is the longest time for which a
 * client heard nothing, less the time between two messages of its room.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MARK = 18, MAX_CLIENTS = 20000, MAX_NEWCOMERS = 2000, MAX_HOLES = 1 << 16, AT_ONCE = 64 };
static const uint64_t SECOND = 1000000000u, PATIENCE = 10000000000u;
static const char ACCEPT[] = "Bz3qJYTGdOe8gUSpLosEdiLKDrk=";      /* the answer to the key in `ask` */
static const char NOTICE[] = "shutting down";

enum { GONE, CONNECTING, ASKED, OPEN, LEAVING };
enum { MEMBER, RETURNED, NEWCOMER };
enum { CUT = 1006 };

typedef struct {
    int fd, state, kind, number, room, local_port, is_told;
    uint32_t said;
    uint32_t *next;         /* by the place of each client of its room: what it should say next */
    int next_size;
    uint64_t story;         /* of all that it has heard since the crowd was last settled */
    uint64_t since, heard_at, longest;
    uint8_t *rest;          /* the start of a frame that is not there as a whole */
    size_t rest_size;
} Client;

static Client clients[MAX_CLIENTS], newcomers[MAX_NEWCOMERS];
static struct { int client, sender; uint32_t number; } holes[MAX_HOLES];
static int count, opening, poller, port, return_port, rooms = 1, last_speaker, has_command, hole_count;
static const char *path;
static double talk_rate, newcomer_rate;
static uint64_t start, talk_due, newcomer_due;

/* Since the last report. */
static uint64_t said, heard, lost, doubled, out_of_order, told, other_stories, served;
static char ends[1 << 20], returns[1 << 20], failures[1 << 16];

static void turn(uint64_t until);
static void begin(Client *c, int kind, int room, int to);

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + t.tv_nsec;
}

static uint64_t ms(uint64_t at) { return (at - start) / 1000000; }

static void die(const char *what) {
    fprintf(stderr, "crowd: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void note(char *list, size_t size, const char *format, ...) {
    va_list arguments;
    size_t used = strlen(list);
    va_start(arguments, format);
    if (size - used > 100) {
        if (used) list[used++] = ',';
        vsnprintf(list + used, size - used, format, arguments);
    }
    va_end(arguments);
}

static uint32_t hex(const uint8_t *digits) {
    uint32_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 4 | (uint32_t)(digits[i] <= '9' ? digits[i] - '0' : digits[i] - 'a' + 10);
    return value;
}

/* A client's frame. The mask is zero, which leaves the payload as it is. */
static void send_frame(Client *c, int opcode, const void *payload, size_t size) {
    uint8_t frame[200] = {(uint8_t)(0x80 | opcode), (uint8_t)(0x80 | size)};
    memcpy(frame + 6, payload, size);
    for (size_t done = 0; done < size + 6;) {
        ssize_t sent = send(c->fd, frame + done, size + 6 - done, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return;
        if (sent > 0) done += (size_t)sent;
    }
}

/* --- who ends, and how */

static void fail(const char *why, int code) {
    note(failures, sizeof failures, "\"%s %d\"", why, code);
}

static void end(Client *c, int code) {
    static const char *const WHERE[] = {"", "refused", "not answered", "closed", "not let go"};
    int state = c->state;
    if (state == GONE) return;
    close(c->fd);
    free(c->rest);
    c->rest = NULL;
    c->rest_size = 0;
    c->state = GONE;
    if (c->kind == NEWCOMER) {
        if (state == LEAVING && code == 1000) served++;
        else fail(WHERE[state], code);
        return;
    }
    if (state < OPEN) { opening--; fail(WHERE[state], code); return; }
    if (state == LEAVING && code == 1000) return;
    note(ends, sizeof ends, "[%d,%d,%llu]", c->local_port, code, (unsigned long long)ms(now()));
    if (return_port) begin(c, RETURNED, c->room, return_port);
}

/* --- what is heard */

static uint32_t *expected(Client *c, int place) {
    if (place >= c->next_size) {
        int size = (count + rooms - 1) / rooms;
        if (size <= place) size = place + 1;
        c->next = realloc(c->next, (size_t)size * sizeof *c->next);
        memset(c->next + c->next_size, 0, (size_t)(size - c->next_size) * sizeof *c->next);
        c->next_size = size;
    }
    return &c->next[place];
}

static void miss(Client *c, int sender, uint32_t from, uint32_t to) {
    for (uint32_t number = from; number < to; number++) {
        lost++;
        if (hole_count == MAX_HOLES) continue;
        holes[hole_count].client = c->number;
        holes[hole_count].sender = sender;
        holes[hole_count++].number = number;
    }
}

static void hear_late(Client *c, int sender, uint32_t number) {
    for (int i = 0; i < hole_count; i++)
        if (holes[i].client == c->number && holes[i].sender == sender && holes[i].number == number) {
            holes[i] = holes[--hole_count];
            lost--;
            out_of_order++;
            return;
        }
    doubled++;
}

static void hear(Client *c, const uint8_t *mark, uint64_t at) {
    int sender = (int)hex(mark + 2);
    uint32_t number = hex(mark + 10), *next;
    if (c->kind == NEWCOMER) {
        if (c->state == OPEN) c->state = LEAVING, c->since = at, send_frame(c, 8, "\x03\xe8", 2);
        return;
    }
    if (c->kind == RETURNED || sender >= count || sender % rooms != c->room) return;
    heard++;
    if (c->heard_at && at - c->heard_at > c->longest) c->longest = at - c->heard_at;
    c->heard_at = at;
    c->story = (c->story ^ ((uint64_t)sender << 32 | number)) * 0x100000001b3u + 1;
    next = expected(c, sender / rooms);
    if (number < *next) { hear_late(c, sender, number); return; }
    if (number > *next) miss(c, sender, *next, number);
    *next = number + 1;
}

static void take_frame(Client *c, int opcode, const uint8_t *payload, size_t size, uint64_t at) {
    if (opcode == 8) {
        int code = size >= 2 ? payload[0] << 8 | payload[1] : 1005;
        if (c->state == OPEN) send_frame(c, 8, payload, size < 2 ? 0 : 2);
        end(c, code);
    } else if (opcode == 9) {
        send_frame(c, 10, payload, size);
    } else if (size >= MARK && !memcmp(payload, "~#", 2)) {
        hear(c, payload, at);
    } else if (!c->is_told && c->kind == MEMBER && memmem(payload, size, NOTICE, strlen(NOTICE))) {
        c->is_told = 1;
        told++;
    }
}

/* Take the whole frames at the start of *data; how many bytes that were. */
static size_t take_frames(Client *c, const uint8_t *data, size_t size) {
    size_t used = 0;
    uint64_t at = now();
    while (c->state >= OPEN && size - used >= 2) {
        const uint8_t *f = data + used;
        size_t head = 2, length = f[1] & 127;
        if (length >= 126) {
            size_t extended = length == 126 ? 2 : 8;
            if (size - used < (head += extended)) break;
            length = 0;
            for (size_t i = 0; i < extended; i++) length = length << 8 | f[2 + i];
        }
        if (size - used < head + length) break;
        take_frame(c, f[0] & 15, f + head, length, at);
        used += head + length;
    }
    return used;
}

static size_t take_answer(Client *c, uint8_t *data, size_t size) {
    uint8_t *last = memmem(data, size, "\r\n\r\n", 4);
    if (!last) return 0;
    if (memcmp(data, "HTTP/1.1 101", 12) || !memmem(data, size, ACCEPT, sizeof ACCEPT - 1)) {
        end(c, size > 12 ? atoi((char *)data + 9) : 0);
        return 0;
    }
    c->state = OPEN;
    c->since = now();
    if (c->kind != NEWCOMER) opening--;
    if (c->kind == RETURNED) note(returns, sizeof returns, "%llu", (unsigned long long)ms(c->since));
    return (size_t)(last + 4 - data);
}

static void read_from(Client *c) {
    static uint8_t buffer[512 * 1024];
    size_t size = c->rest_size, used = 0;
    if (size) memcpy(buffer, c->rest, size);
    ssize_t got = recv(c->fd, buffer + size, sizeof buffer - size, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) { end(c, CUT); return; }
    size += (size_t)got;
    if (c->state == ASKED) used = take_answer(c, buffer, size);
    if (c->state >= OPEN) used += take_frames(c, buffer + used, size - used);
    if (c->state == GONE || c->state == CONNECTING) return;     /* or come back already */
    c->rest_size = size - used;
    if (c->rest_size) {
        c->rest = realloc(c->rest, c->rest_size);
        memcpy(c->rest, buffer + used, c->rest_size);
    }
}

/* --- who comes */

static void watch(Client *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event)) die("epoll_ctl");
}

static void ask(Client *c) {
    char request[512], room[16] = "";
    struct sockaddr_in own;
    int error = 0, size;
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) { end(c, error); return; }
    length = sizeof own;
    getsockname(c->fd, (void *)&own, &length);
    c->local_port = ntohs(own.sin_port);
    if (rooms > 1) snprintf(room, sizeof room, "/%d", c->room);
    size = snprintf(request, sizeof request,
        "GET %s%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        path, room, port);
    c->state = ASKED;
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
    if (send(c->fd, request, (size_t)size, MSG_NOSIGNAL) != size) end(c, errno);
}

static void begin(Client *c, int kind, int room, int to) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)to),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->fd, (void *)&address, sizeof address) && errno != EINPROGRESS) die("connect");
    c->kind = kind;
    c->room = room;
    c->state = CONNECTING;
    c->since = now();
    c->heard_at = c->longest = 0;
    if (kind != NEWCOMER) opening++;
    watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void add_newcomer(void) {
    static int room;
    for (Client *c = newcomers; c < newcomers + MAX_NEWCOMERS; c++)
        if (c->state == GONE) { begin(c, NEWCOMER, room++ % rooms, port); return; }
    fail("too many wait", 0);
}

static void give_up_newcomers(uint64_t at) {
    for (Client *c = newcomers; c < newcomers + MAX_NEWCOMERS; c++)
        if (c->state != GONE && at > c->since + PATIENCE) end(c, 0);
}

/* --- time */

static void speak(void) {
    char mark[MARK + 1];
    for (int tried = 0; tried < count; tried++) {
        Client *c = &clients[last_speaker = (last_speaker + 1) % count];
        if (c->state != OPEN || c->kind != MEMBER) continue;
        snprintf(mark, sizeof mark, "~#%08x%08x", c->number, c->said++);
        send_frame(c, 1, mark, MARK);
        said++;
        return;
    }
}

static void do_what_is_due(void) {
    uint64_t at = now();
    while (talk_rate > 0 && talk_due <= at) speak(), talk_due += (uint64_t)(1e9 / talk_rate);
    if (newcomer_rate <= 0) return;
    while (newcomer_due <= at)
        add_newcomer(), newcomer_due += (uint64_t)(1e9 / newcomer_rate);
    give_up_newcomers(at);
}

static void turn(uint64_t until) {
    struct epoll_event events[512];
    uint64_t at;
    do_what_is_due();
    at = now();
    if (talk_rate > 0 && talk_due < until) until = talk_due;
    if (newcomer_rate > 0 && newcomer_due < until) until = newcomer_due;
    int n = epoll_wait(poller, events, 512, until > at ? (int)((until - at) / 1000000 + 1) : 0);
    for (int i = 0; i < n; i++) {
        Client *c = events[i].data.ptr;
        if (!c) has_command = 1;                                /* on the standard input */
        else if (c->state == CONNECTING) ask(c);
        else if (c->state != GONE) read_from(c);
    }
}

static int is_member(const Client *c) { return c->kind == MEMBER && c->state == OPEN; }

/* How many messages of the members have not been heard by other members; with *count_them, for good. */
static uint64_t missing(int count_them) {
    uint64_t sum = 0;
    for (Client *c = clients; c < clients + count; c++)
        for (int s = c->room; is_member(c) && s < count; s += rooms) {
            uint32_t *next = expected(c, s / rooms);
            if (is_member(&clients[s]) && clients[s].said > *next) {
                sum += clients[s].said - *next;
                if (count_them) miss(c, s, *next, clients[s].said);
            }
            if (count_them && clients[s].said > *next) *next = clients[s].said;
        }
    return sum;
}

/* How many have heard another story than the first of their room. */
static uint64_t compare_stories(void) {
    uint64_t others = 0;
    for (int room = 0; room < rooms; room++) {
        Client *first = NULL;
        for (Client *c = clients + room; c < clients + count; c += rooms)
            if (is_member(c)) first = first ? first : c, others += c->story != first->story;
    }
    return others;
}

/* Be silent until everybody has heard everything, and count what was not; how much that is. */
static uint64_t quiet(void) {
    uint64_t give_up = now() + PATIENCE, left;
    talk_rate = 0;
    while (((left = missing(0)) || compare_stories()) && now() < give_up) turn(now() + SECOND / 100);
    missing(1);
    other_stories += compare_stories();
    for (Client *c = clients; c < clients + count; c++) c->heard_at = c->story = 0;
    return left;
}

static void talk(double rate) {
    talk_rate = rate;
    talk_due = now();
}

/* --- what can be asked for */

static void settle(void) {
    double rate = talk_rate;
    uint64_t left = quiet();
    talk(rate);
    printf("{\"missing\": %llu}\n", (unsigned long long)left);
}

static void open_clients(int number) {
    double rate = talk_rate;
    int before = count, open = 0;
    quiet();
    for (uint64_t give_up = now() + 6 * PATIENCE; (number || opening) && now() < give_up;) {
        for (; number && opening < AT_ONCE && count < MAX_CLIENTS; number--, count++) {
            clients[count] = (Client){.number = count};
            begin(&clients[count], MEMBER, count % rooms, port);
        }
        turn(now() + SECOND / 100);
    }
    for (Client *c = clients + before; c < clients + count; c++) {
        open += c->state == OPEN;
        for (int s = c->room; s < count; s += rooms) *expected(c, s / rooms) = clients[s].said;
    }
    talk(rate);
    printf("{\"opened\": %d}\n", open);
}

static void leave(void) {
    uint64_t give_up = now() + PATIENCE / 2;
    talk_rate = newcomer_rate = 0;
    return_port = 0;
    for (Client *c = clients; c < clients + count; c++)
        if (c->state == OPEN) c->state = LEAVING, send_frame(c, 8, "\x03\xe8", 2);
    for (int left = 1; left && now() < give_up;) {
        left = 0;
        turn(now() + SECOND / 100);
        for (Client *c = clients; c < clients + count; c++) left += c->state == LEAVING;
    }
    for (Client *c = clients; c < clients + count; c++) end(c, CUT);
    printf("{\"left\": %d}\n", count);
}

static void report(void) {
    uint64_t interval = talk_rate > 0 ? (uint64_t)(1e9 * rooms / talk_rate) : 0, at = now();
    int open = 0, waiting = 0, first = 1;
    for (Client *c = clients; c < clients + count; c++) open += is_member(c);
    for (Client *c = newcomers; c < newcomers + MAX_NEWCOMERS; c++) waiting += c->state != GONE;
    printf("{\"clients\": %d, \"said\": %llu, \"heard\": %llu, \"lost\": %llu, \"doubled\": %llu, "
        "\"out_of_order\": %llu, \"other_stories\": %llu, \"told\": %llu, \"ends\": [%s], "
        "\"returns\": [%s], \"newcomers\": %llu, \"newcomers_waiting\": %d, \"failures\": [%s], "
        "\"now\": %llu, \"pauses_us\": [",
        open, (unsigned long long)said, (unsigned long long)heard, (unsigned long long)lost,
        (unsigned long long)doubled, (unsigned long long)out_of_order,
        (unsigned long long)other_stories, (unsigned long long)told, ends, returns,
        (unsigned long long)served, waiting, failures, (unsigned long long)ms(at));
    for (Client *c = clients; c < clients + count; c++) {
        uint64_t longest = c->longest;
        if (c->heard_at && at - c->heard_at > longest) longest = at - c->heard_at;
        if (is_member(c) && longest)
            printf("%s%llu", first ? "" : ",",
                (unsigned long long)(longest > interval ? (longest - interval) / 1000 : 0)), first = 0;
        c->longest = 0;
        c->is_told = 0;
    }
    printf("]}\n");
    said = heard = lost = doubled = out_of_order = told = other_stories = served = 0;
    ends[0] = returns[0] = failures[0] = 0;
}

static void obey(const char *line) {
    double number;
    if (sscanf(line, "connect %lf", &number) == 1) { open_clients((int)number); return; }
    if (!strncmp(line, "settle", 6)) { settle(); return; }
    if (!strncmp(line, "report", 6)) { report(); return; }
    if (!strncmp(line, "leave", 5)) { leave(); return; }
    if (sscanf(line, "talk %lf", &number) == 1) talk(number);
    else if (sscanf(line, "newcomers %lf", &number) == 1) newcomer_rate = number, newcomer_due = now();
    else if (sscanf(line, "return %lf", &number) == 1) return_port = (int)number;
    else if (sscanf(line, "port %lf", &number) == 1) port = (int)number;
    else { printf("{\"error\": \"unknown command\"}\n"); return; }
    printf("{}\n");
}

int main(int argc, char **argv) {
    struct rlimit files;
    struct epoll_event input = {.events = EPOLLIN};
    char line[128];
    if (argc < 3) { fprintf(stderr, "crowd PORT PATH [ROOMS]: see the top of crowd.c\n"); return 2; }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    port = atoi(argv[1]);
    path = argv[2];
    if (argc > 3) rooms = atoi(argv[3]);
    start = now();
    if ((poller = epoll_create1(0)) < 0) die("epoll_create1");
    if (epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input)) die("standard input");
    while (1) {
        for (has_command = 0; !has_command;) turn(now() + SECOND);
        if (!fgets(line, sizeof line, stdin)) return 0;
        obey(line);
        fflush(stdout);
    }
}
