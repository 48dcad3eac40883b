package main

import (
	"strconv"

	"github.com/alecthomas/kong"

	"github.com/brazier-relay/brazier/cmd/brazier/admin"
	"github.com/brazier-relay/brazier/cmd/brazier/bench"
	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/demo"
	"github.com/brazier-relay/brazier/cmd/brazier/process"
	"github.com/brazier-relay/brazier/queue/ingress"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

const description = `Brazier delivers messages from Braze webhook campaigns to Facebook Messenger. Its ingress accepts the requests of Braze, a queue stores them on disk, and a worker sends them at the rate that Facebook allows and retries what fails.

To see it at work, run "brazier demo": it needs no settings and sends no real messages.

Every flag can also be set by the environment variable beside it, such as $BRAZIER_LISTEN; the flag takes precedence. Defaults follow the =. Flags without = are switches that are off; set their variable to true to switch them on. Times are written like 90s, 2h or 3d, sizes like 256KiB, 500MB or 10GiB.

Exit codes: 0 success, 1 failure, 2 invalid flags or settings, 3 stopped before all messages in flight were finished.`

var groups = []kong.Group{
	{Key: "deadletters", Title: "Which dead letters (those that match all of these):"},
	{Key: "ingress", Title: "Ingress (accepts messages from Braze over HTTP):"},
	{Key: "pages", Title: "Pages:"},
	{Key: "graph", Title: "Facebook:"},
	{Key: "queue", Title: "Queue (NATS JetStream):"},
	{Key: "embedded", Title: "Queue (NATS JetStream in this process):"},
	{Key: "sandbox", Title: "Simulated Send API and Braze:"},
	{Key: "load", Title: "Load:"},
	{Key: "started", Title: "Processes to start (without --url):"},
	{Key: "running", Title: "An ingress that already runs:"},
	{Key: "ops", Title: "Operations:"},
	{Key: "log", Title: "Logs (on standard error):"},
}

// vars are values that help texts and defaults share with the code.
var vars = kong.Vars{
	"version":       cli.Version(),
	"graph_url":     sendapi.DefaultGraphURL,
	"graph_version": process.DefaultGraphVersion,
	"classes":       admin.ClassNames(),

	"sandbox_secret": sandbox.DefaultAppSecret,

	"listen":            ingress.DefaultListen,
	"max_body":          cli.Size(ingress.DefaultMaxBody).String(),
	"max_waiting":       strconv.Itoa(ingress.DefaultMaxWaiting),
	"max_waiting_bytes": cli.Size(ingress.DefaultMaxWaitingBytes).String(),
	"max_webhook_body":  cli.Size(ingress.DefaultMaxWebhookBody).String(),
	"max_webhooks":      strconv.Itoa(ingress.DefaultMaxWebhooksWaiting),
	"max_webhook_bytes": cli.Size(ingress.DefaultMaxWebhookBytes).String(),
	"max_connections":   strconv.Itoa(ingress.DefaultMaxConnections),
	"store_wait":        ingress.DefaultWait.String(),
}

type commands struct {
	ShowVersion kong.VersionFlag `name:"version" env:"-" help:"Print the version."`

	Demo        demo.Command             `cmd:"" help:"Show everything at work in one process, against a simulated Facebook. Needs no settings."`
	Serve       process.ServeCommand     `cmd:"" help:"Run everything on one machine: ingress, worker, and a queue whose files are in --data."`
	Ingress     process.IngressCommand   `cmd:"" help:"Run only the ingress, against NATS servers. Start as many as you need."`
	Worker      process.WorkerCommand    `cmd:"" help:"Run only a worker, against NATS servers. Start as many as you need."`
	Sandbox     sandboxCommand           `cmd:"" help:"Run only a simulated Send API and a simulated Braze, to try things without Facebook and Braze."`
	DeadLetters admin.DeadLettersCommand `cmd:"" name:"deadletters" help:"List, show, replay and discard messages that could not be delivered."`
	Trace       admin.TraceCommand       `cmd:"" help:"Show where a message is, its attempts and its replays."`
	Pages       admin.PagesCommand       `cmd:"" help:"List pages, pause sending for one, and resume it."`
	Campaign    admin.CampaignCommand    `cmd:"" help:"Show what became of a campaign's messages: accepted, delivered, failed and why, waiting."`
	Health      process.HealthCommand    `cmd:"" help:"Ask a role that runs whether it can do its work, for health checks of containers."`
	Status      admin.StatusCommand      `cmd:"" help:"Show pages, processes and streams, and what a person has to do."`
	Setup       admin.SetupCommand       `cmd:"" help:"Create the streams and buckets in NATS, or change them to match the settings."`
	People      admin.PeopleCommand      `cmd:"" help:"Show what is stored about a person, and forget them."`
	Webhook     admin.WebhookCommand     `cmd:"" help:"Show whether Facebook sends the webhooks of pages, and subscribe a page."`
	Ref         refCommand               `cmd:"" help:"Create and check the references in m.me links, for tests and support."`
	Keys        keysCommand              `cmd:"" help:"Create keys for callers of the ingress."`
	Bench       bench.Command            `cmd:"" help:"Post many messages, and print throughput, cost, latency, and whether each arrived exactly once."`
	Check       checkCommand             `cmd:"" help:"Print the settings that the other commands would use, with secrets masked, and all faults in them."`
	Version     versionCommand           `cmd:"" help:"Print the version, and the versions that it was built with."`
}
