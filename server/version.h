/* What this program calls itself. The version's number comes from the Makefile. */
#ifndef SERVER_VERSION_H
#define SERVER_VERSION_H

#define SV_NAME "convd"
#ifdef CONVD_VERSION
#define SV_VERSION CONVD_VERSION
#else
#define SV_VERSION "unversioned"
#endif

#endif
