// Package embedded is the store that needs no set-up: an S3 server with Object
// Lock in ingestd's own process tree. It stands under storage, which speaks to
// it as to any other bucket; only the transport, a private unix socket, differs.
//
// The server is versitygw, a library that allows one instance per process and
// changes the working directory, so it runs in a child of our own binary:
//
//	daemon ── Open ──▶ child: Serve ── guard ── versitygw posix ──▶ root/data, root/versions
//	       ◀─ S3 over root/s3.sock (0600), keys in root/credentials.json (0600) ─▶
//
// Bare versitygw is not fit for evidence: it never syncs, sets an object's lock
// after the object is visible, forgets a legal hold once the retention has
// expired, and takes paths in upload ids at face value. The guard stands
// between its HTTP front and its files and promises:
//
//   - Durable before acknowledged. Data and lock are on the disk before an
//     object gets its name, the name is on the disk before the client hears of
//     it. A crash leaves an object absent or whole and locked.
//   - Every version is locked, COMPLIANCE, for six calendar months at least
//     (第十一条), whatever the request says. Only below storage.SelfTestPrefix may
//     a lock be shorter.
//   - A held or locked version is never deleted, a lock never shortened, a hold
//     outlives the retention. What can't be read counts as locked.
//   - Nothing makes footage look gone: no delete markers, no suspended
//     versioning, no policy, lifecycle, ACL, CORS or website, no deletion of
//     buckets, no administration over HTTP.
//   - Once the disk has failed to sync, no write is accepted until a restart.
//
// On disk an object is a plain file, data/<bucket>/<key>, its metadata in user.*
// extended attributes; replaced versions lie below versions/. The footage can be
// copied out without any software of ours.
//
// Honest limit: whoever is root on this machine, or has the daemon's own uid,
// can remove files and edit attributes. The store is tamper-evident, by manifests
// and the journal, not WORM. The clock is the machine's own: moving it forward
// makes locks expire.
// Kernels before 5.8 do not report write-back errors from syncfs.
//
// One rest is known: a crash in the microseconds between link and rename while
// an existing key is replaced can leave a second, whole and locked copy named
// ".<name>.sgwtmp.<number>" beside it.
package embedded
