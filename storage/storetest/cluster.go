package storetest

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/bodyworn/ingestd/storage"
)

// clusterNodes is the fewest with which MinIO can lose a node and go on writing: of
// four drives two hold parity (EC:2, docs/erasure/storage-class), reading needs two
// and writing three.
const clusterNodes = 4

// MinIOCluster is one MinIO of four nodes with a drive each, over which every
// object is spread with erasure coding. Config and Client reach node 0, which a
// test leaves alive; Kill and Start are for all nodes at once.
type MinIOCluster struct {
	*Server
	nodes []*clusterNode
}

// Cluster starts a real MinIO cluster on loopback, over http. It needs about 1 GB
// of memory when it works. Where there is no binary the test is skipped, as for
// MinIO.
func Cluster(t testing.TB) *MinIOCluster {
	t.Helper()
	binary, dir := minioBinary(t), t.TempDir() // before the clean-up that kills who writes there
	access, secret := rand.Text(), rand.Text()
	c := &MinIOCluster{}
	kill := func() {
		for _, n := range c.nodes {
			n.kill()
		}
	}
	t.Cleanup(kill)
	// Ports that were free a moment ago may be gone.
	var err error
	for try := range 3 {
		// With new drives: what a start that has failed left on the old ones names ports
		// that are gone.
		c.nodes = newNodes(t, binary, filepath.Join(dir, fmt.Sprint(try)), storage.Config{AccessKey: access, SecretKey: secret})
		if err = startNodes(c.nodes); err == nil {
			break
		}
		kill()
	}
	if err != nil {
		t.Fatal(err)
	}
	c.Server = &Server{Name: "minio-cluster", config: c.nodes[0].config, kill: kill}
	c.start = func(t testing.TB) {
		t.Helper()
		if err := startNodes(c.nodes); err != nil {
			t.Fatal(err)
		}
	}
	c.connect(t)
	return c
}

// KillNode ends the process of a node, from 0 to 3, as kill -9 does. Its drive
// stays, and is away with it.
func (c *MinIOCluster) KillNode(i int) { c.nodes[i].kill() }

// StartNode starts a killed node again with the drive that it had, and returns when
// it is ready and knows enough others to write with.
func (c *MinIOCluster) StartNode(t testing.TB, i int) {
	t.Helper()
	if err := startNodes(c.nodes[i : i+1]); err != nil {
		t.Fatal(err)
	}
}

// clusterNode is one process of a cluster over its restarts.
type clusterNode struct {
	minioProcess
	cluster []string // the drives of all nodes as URLs, the same for each node
}

// newNodes gives nodes, not started, whose drives will be made below dir.
func newNodes(t testing.TB, binary, dir string, config storage.Config) []*clusterNode {
	t.Helper()
	var nodes []*clusterNode
	var drives []string
	taken := map[string]bool{}
	for i := range clusterNodes {
		n := &clusterNode{minioProcess: minioProcess{t: t, binary: binary, config: config, certs: dir}}
		for n.config.Endpoint == "" || taken[n.config.Endpoint] {
			n.config.Endpoint = freePort(t)
		}
		taken[n.config.Endpoint] = true
		// Nodes of one machine are told apart by port and path; MinIO refuses one
		// path on two ports of a host.
		n.data = filepath.Join(dir, fmt.Sprintf("drive%d", i))
		drives = append(drives, "http://"+n.config.Endpoint+n.data)
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		n.cluster = drives
	}
	return nodes
}

// startNodes starts all before it waits for any: none is ready without others.
func startNodes(nodes []*clusterNode) error {
	for _, n := range nodes {
		if err := n.launch(); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		if err := n.waitReady(); err != nil {
			return fmt.Errorf("node %s of the cluster: %w", n.config.Endpoint, err)
		}
	}
	return nil
}

func (n *clusterNode) launch() error {
	args := []string{"server", "--quiet", "--address", n.config.Endpoint, "--certs-dir", n.certs}
	cmd := exec.Command(n.binary, append(args, n.cluster...)...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + n.certs, "TMPDIR=" + os.TempDir(),
		"MINIO_ROOT_USER=" + n.config.AccessKey, "MINIO_ROOT_PASSWORD=" + n.config.SecretKey,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off",
		// Without it a drive on the disk of the root file system is not used, as it is in
		// a test, and each node keeps far more buffers (cmd/xl-storage.go, getDiskInfo;
		// cmd/erasure-server-pool.go). It changes nothing in how objects are written.
		"MINIO_CI_CD=1",
		// In a container MinIO waits for ever for a host that is not loopback, unless it
		// is told which of the drives is its own (cmd/endpoint.go, UpdateIsLocal).
		// Elsewhere it finds that out itself and this is not read.
		"_MINIO_SERVER_LOCAL=" + n.config.Endpoint,
	}
	cmd.Stdout, cmd.Stderr = n.t.Output(), n.t.Output()
	// A test that panics runs no cleanup.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start MinIO: %w", err)
	}
	exited := make(chan struct{})
	n.cmd, n.exited = cmd, exited
	go func() { // ends with the process, which kill ends
		_ = cmd.Wait() // killed
		close(exited)
	}()
	return nil
}
