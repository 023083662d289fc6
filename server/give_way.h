/* Which threads go first where there are more of them than cores: those that serve sockets, then
 * the others, and threads that compute for milliseconds at a time last. */
#ifndef SERVER_GIVE_WAY_H
#define SERVER_GIVE_WAY_H

/* From here on the calling thread, and threads that it starts, are interrupted as soon as a thread
 * that did not call this has something to do. Between processes it is the shares of their
 * containers or services that count. Where the system refuses, all threads stay equals. */
void sv_give_way(void);

/* Threads that the calling one starts until sv_go_as_others() do little at a time, and interrupt
 * who does more. */
void sv_go_first(void);
void sv_go_as_others(void);

#endif
