/* The physical limit of a hand-off: accept + recv + sendmsg(SCM_RIGHTS) + close, and nothing else.
 *
 *     handoff PORT WORKERS
 *
 * The parent passes connections to its children in turn; a child answers each once and closes it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PREFIX = 65536, BACKLOG = 4096 };

static char buffer[PREFIX];

union control {
    struct cmsghdr align;
    char space[CMSG_SPACE(sizeof(int))];
};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void serve(int mailbox) {
    char answer[160];
    int size = snprintf(answer, sizeof answer,
                        "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\n%-11d\n",
                        getpid());
    for (;;) {
        struct iovec data = {buffer, sizeof buffer};
        union control control;
        struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1,
                                 .msg_control = control.space,
                                 .msg_controllen = sizeof control.space};
        if (recvmsg(mailbox, &message, MSG_CMSG_CLOEXEC) <= 0)
            exit(0);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        if (header == NULL)
            continue;
        int client;
        memcpy(&client, CMSG_DATA(header), sizeof client);
        if (write(client, answer, (size_t)size) < 0)
            perror("write");
        close(client);
    }
}

static void hand(int mailbox, int client, size_t size) {
    struct iovec data = {buffer, size};
    union control control;
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control.space,
                             .msg_controllen = sizeof control.space};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof client);
    memcpy(CMSG_DATA(header), &client, sizeof client);
    if (sendmsg(mailbox, &message, 0) < 0)
        fail("sendmsg");
    close(client);
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: handoff PORT WORKERS\n");
        return 2;
    }
    int workers = atoi(arguments[2]), mailboxes[workers], one = 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in here = {.sin_family = AF_INET,
                               .sin_port = htons((unsigned short)atoi(arguments[1])),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(listener, IPPROTO_TCP, 9 /* TCP_DEFER_ACCEPT */, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, BACKLOG))
        fail("listen");
    for (int i = 0; i < workers; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair))
            fail("socketpair");
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(pair[0]);
            close(listener);
            serve(pair[1]);
        }
        close(pair[1]);
        mailboxes[i] = pair[0];
    }
    for (int turn = 0;; turn = (turn + 1) % workers) {
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0)
            fail("accept");
        ssize_t size = recv(client, buffer, sizeof buffer, 0);
        if (size > 0)
            hand(mailboxes[turn], client, (size_t)size);
        else
            close(client);
    }
}
