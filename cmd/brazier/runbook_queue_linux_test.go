package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

// role starts a role as a process, and watches it.
func (d *drill) role(args ...string) *proc {
	d.t.Helper()
	p := startProcess(d.t, "brazier", append(args, "--ops-listen=127.0.0.1:0", "--log-format=json")...)
	p.log.await(d.t, "started")
	d.watch(p)
	return p
}

// facebook starts a simulated Facebook for a page file, and returns the address of its Graph API.
func (d *drill) facebook(file string) string {
	d.t.Helper()
	p := startProcess(d.t, "brazier", "sandbox", "--listen=127.0.0.1:0", "--control-listen=127.0.0.1:0", "--braze-listen=off", "--pages="+file, "--latency=20ms", "--jitter=0s")
	return p.address(d.t, `Graph API +(http://\S+)`)
}

// natsNode is a nats-server process that can be started again.
type natsNode struct {
	*proc
	address string
	start   func() *proc
}

// nats starts one server, or several that make a cluster.
func (d *drill) nats(many int) (nodes []*natsNode, url string) {
	d.t.Helper()
	var routes, urls []string
	for range many {
		routes = append(routes, freeAddress(d.t))
	}
	for i := range many {
		n := &natsNode{address: freeAddress(d.t)}
		dir := d.t.TempDir()
		config := fmt.Sprintf("server_name: nats-%d\nlisten: %q\njetstream { store_dir: %q, sync_interval: 100ms }\n", i+1, n.address, dir)
		if many > 1 {
			config += fmt.Sprintf("cluster { name: drill, listen: %q, routes: [\"nats-route://%s\"] }\n", routes[i], strings.Join(routes, `", "nats-route://`))
		}
		path := filepath.Join(dir, "nats.conf")
		writeFile(d.t, path, config)
		n.start = func() *proc { return startProcess(d.t, "nats-server", "-c", path) }
		n.proc = n.start()
		nodes, urls = append(nodes, n), append(urls, "nats://"+n.address)
	}
	return nodes, strings.Join(urls, ",")
}

func (n *natsNode) kill() {
	n.signal(os.Kill)
	<-n.done
}

// Of three servers one is lost, then the majority, then all.
func drillNATSAway(d *drill) {
	d.every = 3 * time.Second // /metrics waits up to 2 s for a cluster without a leader
	page := d.acme()
	file := writePages(d.t, page)
	nodes, url := d.nats(3)
	flags := []string{"--nats-url=" + url, "--pages=" + file}
	d.role(append([]string{"worker", "--graph-url=" + d.facebook(file)}, flags...)...)
	d.role(append([]string{"ingress", "--listen=127.0.0.1:0"}, flags...)...)
	d.quiet(flags...)
	nodes[0].kill()
	d.status("Replicas are missing", flags...)
	nodes[1].kill()
	d.alerts("BrazierNotReady")
	d.status("cannot be used", flags...)
	d.lines("waiting")
	nodes[2].kill()
	d.alerts("BrazierNATSLost")
	d.mended()
	for _, n := range nodes {
		n.proc = n.start()
	}
	d.over()
}

// A role is started with a wrong password, again and again, and then with one that lacks rights.
func drillNATSRefuses(d *drill) {
	page := d.acme()
	address, _ := startDeployedNATS(d.t)
	file := writePages(d.t, page)
	as := func(user, password string) []string {
		path := filepath.Join(d.t.TempDir(), "password")
		writeFile(d.t, path, password+"\n")
		return []string{"--nats-url=nats://" + address, "--nats-user=" + user, "--nats-password-file=" + path, "--pages=" + file}
	}
	runSetup(d.t, cli.ExitOK, as("operator", "poperator")[:3]...)
	ops := freeAddress(d.t)
	ingress := func(login []string) *proc {
		p := startProcess(d.t, "brazier", append([]string{"ingress", "--listen=127.0.0.1:0", "--ops-listen=" + ops, "--log-format=json"}, login...)...)
		d.procs = append(d.procs, p)
		return p
	}
	good := ingress(as("ingress", "pingress"))
	good.log.await(d.t, "started")
	d.watch(good)
	d.quiet(as("operator", "poperator")...)
	good.terminate()
	for range 4 {
		p := ingress(as("ingress", "wrong-secret"))
		if code := p.exit(); code != cli.ExitFailed {
			d.t.Errorf("exit code %d", code)
		}
	}
	d.alerts()
	rights := startProcess(d.t, "brazier", append([]string{"worker", "--graph-url=http://127.0.0.1:1", "--ops-listen=off", "--log-format=json"}, as("ingress", "pingress")...)...)
	d.procs = append(d.procs, rights)
	d.lines()
	d.mended()
	ingress(as("ingress", "pingress"))
	d.over()
}

// The messages of a page that is held use up the queue. The page may fill all of it: of two with the default share, a held one fills half.
func drillQueueFull(d *drill) {
	page := d.acme()
	page.extra = "    queue_share: 100%\n"
	s := d.serve([]testPage{page}, "--max-queue=1MiB")
	s.script(graph(400, 613, 0))
	posts := newPoster(d.t, s.ingress, page)
	posts.text = strings.Repeat("x", 1900)
	posts.until(4, func(a ingressAnswer) bool { return a.status == http.StatusServiceUnavailable })
	for range 20 {
		posts.post()
	}
	d.alerts()
	d.status("", s.flags()...)
	d.lines()
	d.mended()
	s.heal()
	s.run("pages", "resume", page.id)
	d.over()
}

// The disk is full to the reserve, and then to the last byte.
func drillDiskFull(d *drill) {
	page := d.acme()
	disk := mountDisk(d.t, 128<<20)
	file := writePages(d.t, page)
	data := filepath.Join(disk.dir, "data")
	p := d.role("serve", "--listen=127.0.0.1:0", "--data="+data, "--pages="+file, "--graph-url="+d.facebook(file), "--store-wait=1s")
	posts := newPoster(d.t, p.log.await(d.t, "started")["address"].(string), page)
	posts.post()
	d.quiet("--data="+data, "--pages="+file)
	disk.fill(d.t, 16<<20)
	for range 12 {
		if a := posts.post(); a.status != http.StatusServiceUnavailable {
			d.t.Errorf("on a full disk the answer is %+v", a)
		}
	}
	d.alerts()
	d.status("", "--data="+data, "--pages="+file)
	disk.free(d.t)
	posts.until(1, func(a ingressAnswer) bool { return a.status == http.StatusAccepted })
	load := inBackground(posts, 4)
	filling := disk.keepFull(d.t)
	p.log.await(d.t, "queue_stopped")
	d.mended()
	filling()
	disk.free(d.t)
	d.over()
	load.end()
}

// A page is in no worker's page file, and then there is no worker.
func drillNobodySends(d *drill) {
	page, other := d.acme(), newTestPage("5647382910", "nordwind")
	file, worked := writePages(d.t, page, other), writePages(d.t, page)
	_, url := d.nats(1)
	graph := d.facebook(file)
	start := func() *proc { return d.role("worker", "--graph-url="+graph, "--nats-url="+url, "--pages="+worked) }
	worker := start()
	ingress := d.role("ingress", "--listen=127.0.0.1:0", "--nats-url="+url, "--pages="+file)
	flags := []string{"--nats-url=" + url, "--pages=" + file}
	d.quiet(flags...)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	send := func(page testPage) {
		d.t.Helper()
		if status, answer, err := post(client, ingress.log.events("started")[0]["address"].(string), page, message("2003004005006007", "hello"), nil); status != http.StatusAccepted {
			d.t.Errorf("answer %d %s, error %v", status, answer, err)
		}
	}
	send(other)
	d.alerts("BrazierPageMissing")
	d.status("in no worker's page file", flags...)
	worker.signal(os.Kill)
	<-worker.done
	send(page)
	d.alerts("BrazierNoWorker")
	d.status("no worker is alive", flags...)
	d.lines()
	d.mended()
	start()
	d.over()
	// Six hours are too long here: seconds show as well that the rule has the age of what waits.
	old := d.rules["BrazierBacklogOld"]
	d.holds("BrazierBacklogOld", regexp.MustCompile(`6 \* 3600`).ReplaceAllString(old, "1"))
}
