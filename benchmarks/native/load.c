/* The load generator: many connections, one thread, every answer checked.
 *
 *     load PORT CONNECTIONS SECONDS close|keep|turns [SOURCES] < TICKETS
 *
 * A ticket is a line: the word that the answer has to begin with (- is any), a space, a path, and
 * perhaps a space and a cookie. `close`: each connection carries one request. `keep`: it is kept,
 * and always carries the same ticket. `turns`: it is kept, and each request carries the next
 * ticket. Whenever the server closes, the next request opens a new connection. With SOURCES the
 * connections come from so many addresses in turn, from 127.1.0.1 on.
 *
 * Prints one JSON object: requests, wrong (answered by another worker), refused (another status than
 * 200), broken (connections that failed), connections, seconds, cpu (microseconds, of this
 * process).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TICKETS = 1024, ANSWER = 16384, EVENTS = 64 };

struct ticket {
    char expect[32];
    char request[2048];
    size_t size;
};

struct connection {
    int fd;
    size_t ticket, sent, read;
    char answer[ANSWER + 1];
};

static struct ticket tickets[TICKETS];
static size_t known;
static struct sockaddr_in server;
static int poller, keep, turns;
static unsigned sources;
static long requests, wrong, refused, broken, connections;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void read_tickets(void) {
    char line[1024], path[512], cookie[400];
    while (known < TICKETS && fgets(line, sizeof line, stdin)) {
        struct ticket *ticket = &tickets[known];
        cookie[0] = 0;
        if (sscanf(line, "%31s %511s %399[^\n]", ticket->expect, path, cookie) < 2)
            continue;
        ticket->size = (size_t)snprintf(
            ticket->request, sizeof ticket->request,
            "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
            "Accept: */*\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en\r\n%s%s%s"
            "Connection: %s\r\n\r\n",
            path, cookie[0] ? "Cookie: " : "", cookie, cookie[0] ? "\r\n" : "",
            keep ? "keep-alive" : "close");
        known++;
    }
}

static void send_request(struct connection *c) {
    struct ticket *ticket = &tickets[c->ticket];
    while (c->sent < ticket->size) {
        ssize_t size = send(c->fd, ticket->request + c->sent, ticket->size - c->sent, MSG_NOSIGNAL);
        if (size < 0)
            return; /* not connected yet, or broken: the poller says which */
        c->sent += (size_t)size;
    }
}

static void open_connection(struct connection *c) {
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (sources) {
        struct sockaddr_in source = {.sin_family = AF_INET};
        source.sin_addr.s_addr = htonl(0x7F010001 + (unsigned)connections % sources);
        /* The port is chosen when the connection is made, when it need be unique to it only. */
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(c->fd, (struct sockaddr *)&source, sizeof source) < 0) {
            perror("bind");
            exit(1);
        }
    }
    if (c->fd < 0 || (connect(c->fd, (struct sockaddr *)&server, sizeof server) < 0 &&
                      errno != EINPROGRESS)) {
        perror("connect");
        exit(1);
    }
    connections++;
    c->sent = c->read = 0;
    send_request(c);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP,
                                .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
}

static void reopen(struct connection *c) {
    close(c->fd);
    open_connection(c);
}

/* The length of the whole answer if its head is there, else 0; `body` is where the body begins. */
static size_t answer_size(struct connection *c, char **body) {
    c->answer[c->read] = 0;
    char *end = strstr(c->answer, "\r\n\r\n");
    if (!end)
        return 0;
    *body = end + 4;
    char *length = strcasestr(c->answer, "\r\nContent-Length:");
    if (!length || length > end) {
        fprintf(stderr, "an answer without Content-Length: %.300s\n", c->answer);
        exit(1);
    }
    return (size_t)(*body - c->answer) + strtoul(length + 17, NULL, 10);
}

/* Whether the answer is whole; then it is counted, and the next request is sent. */
static int answered(struct connection *c) {
    char *body;
    size_t size = answer_size(c, &body);
    if (!size || c->read < size)
        return 0;
    struct ticket *ticket = &tickets[c->ticket];
    requests++;
    if (strncmp(c->answer + 9, "200", 3))
        refused++;
    else if (ticket->expect[0] != '-' && strncmp(body, ticket->expect, strlen(ticket->expect)))
        wrong++;
    char *close_header = strcasestr(c->answer, "\r\nConnection: close");
    int closing = !keep || (close_header && close_header < body);
    if (turns || !keep)
        c->ticket = (c->ticket + 1) % known;
    c->sent = c->read = 0;
    if (closing)
        reopen(c);
    else
        send_request(c);
    return 1;
}

static void ready(struct connection *c) {
    if (c->sent < tickets[c->ticket].size)
        send_request(c);
    for (;;) {
        ssize_t size = recv(c->fd, c->answer + c->read, ANSWER - c->read, 0);
        if (size < 0 && errno == EAGAIN)
            return;
        if (size <= 0) {
            /* A kept connection may be closed by the server between two requests. */
            if (size < 0 || c->read)
                broken++;
            reopen(c);
            return;
        }
        c->read += (size_t)size;
        if (answered(c))
            return; /* nothing more can be there before the next request is answered */
    }
}

int main(int count, char **arguments) {
    if (count != 5 && count != 6) {
        fprintf(stderr,
                "usage: load PORT CONNECTIONS SECONDS close|keep|turns [SOURCES] < TICKETS\n");
        return 2;
    }
    server.sin_family = AF_INET;
    server.sin_port = htons((unsigned short)atoi(arguments[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    size_t size = (size_t)atoi(arguments[2]);
    keep = strcmp(arguments[4], "close") != 0;
    turns = strcmp(arguments[4], "turns") == 0;
    sources = count == 6 ? (unsigned)atoi(arguments[5]) : 0;
    read_tickets();
    struct connection *all = calloc(size, sizeof *all);
    if (!known || !all)
        return 2;
    poller = epoll_create1(0);
    for (size_t i = 0; i < size; i++) {
        all[i].ticket = i % known;
        open_connection(&all[i]);
    }
    double start = now(), end = start + atof(arguments[3]);
    struct epoll_event events[EVENTS];
    while (now() < end) {
        int happened = epoll_wait(poller, events, EVENTS, 50);
        for (int i = 0; i < happened; i++)
            ready(events[i].data.ptr);
    }
    double seconds = now() - start;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    printf("{\"requests\": %ld, \"wrong\": %ld, \"refused\": %ld, \"broken\": %ld, "
           "\"connections\": %ld, \"seconds\": %.4f, \"cpu\": %.0f}\n",
           requests, wrong, refused, broken, connections, seconds, cpu);
    return 0;
}
