// Package e2e tests the whole daemon on a real Linux kernel: in one machine of
// QEMU, with recorders that are plugged in and pulled out, and with a real store
// outside of it. scripts/e2e prepares the machine and runs the tests, which
// have the build tag e2e; package wire is what they say to the agent in the
// machine, the command guest.
//
// What is proved is looked at from outside: the objects in the store by plain S3
// calls, the recorder's image byte by byte, the daemon by its log and by what the
// kernel tells of it.
//
// One scenario, Disposal, has the embedded store in the machine, and sets the clock
// there: only so do locks end that nobody can shorten.
package e2e
