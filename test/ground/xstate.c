/*
 * xstate: for user-mode Linux on a processor whose register state is larger
 * than the 2,696 bytes that its kernel 6.1 makes room for, as with AMX. The
 * host's kernel takes a process' state back only whole, so the first process of
 * the guest would end with "put_fp_registers". Preloaded (see guest), this adds
 * at PTRACE_SETREGSET what the guest's kernel has no room for: nothing, since no
 * process uses such registers without having asked the host for them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	header = 512, /* where the bits of the components stand that a state has */
	first_large = 17, /* the first component that the guest has no room for */
};

/* The guest's kernel has one thread that does this, and small stacks. */
static unsigned char state[64 << 10];

long ptrace(enum __ptrace_request request, ...)
{
	static long (*next)(enum __ptrace_request, ...);
	va_list list;
	va_start(list, request);
	pid_t pid = va_arg(list, pid_t);
	void *address = va_arg(list, void *), *data = va_arg(list, void *);
	va_end(list);

	if (!next)
		next = (long (*)(enum __ptrace_request, ...))dlsym(RTLD_NEXT, "ptrace");
	if (request != PTRACE_SETREGSET || address != (void *)NT_X86_XSTATE)
		return next(request, pid, address, data);

	struct iovec *given = data, whole = {state, sizeof(state)};
	long result = next(PTRACE_GETREGSET, pid, address, &whole);
	if (result < 0 || given->iov_len >= whole.iov_len)
		return next(request, pid, address, data);
	memset(state, 0, sizeof(state));
	memcpy(state, given->iov_base, given->iov_len);
	uint64_t has;
	memcpy(&has, state + header, sizeof(has));
	has &= (UINT64_C(1) << first_large) - 1;
	memcpy(state + header, &has, sizeof(has));
	return next(request, pid, address, &whole);
}
