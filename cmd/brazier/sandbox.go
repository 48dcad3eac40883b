package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

type sandboxCommand struct {
	Listen        string        `name:"listen" env:"BRAZIER_SANDBOX_LISTEN" default:"127.0.0.1:9090" group:"sandbox" help:"Address of the simulated Graph API, HOST:PORT."`
	Control       string        `name:"control-listen" default:"127.0.0.1:9091" group:"sandbox" help:"Address of the control API, which scripts faults, lists the calls and lets people write; or off."`
	BrazeListen   string        `name:"braze-listen" default:"127.0.0.1:9092" group:"sandbox" help:"Address of the simulated Braze REST API; or off, which switches its control API off too."`
	BrazeControl  string        `name:"braze-control-listen" default:"127.0.0.1:9093" group:"sandbox" help:"Address of the control API of the simulated Braze, which shows profiles and scripts faults; or off."`
	Pages         string        `name:"pages" env:"BRAZIER_SANDBOX_PAGES" type:"path" group:"sandbox" help:"Page file with the pages, tokens, apps and Braze keys that exist. Default: none, every token belongs to a page of its own, and every Braze key is valid."`
	WebhookURL    string        `name:"webhook-url" placeholder:"URL" group:"sandbox" help:"URL to which webhooks are posted, such as http://127.0.0.1:8080/webhook. Default: none; no webhooks."`
	WebhookSecret string        `name:"webhook-secret-file" type:"path" placeholder:"FILE" group:"sandbox" help:"File with the app secret that signs webhooks, where the page file has no apps. Default: none; the secret is ${sandbox_secret}."`
	Latency       time.Duration `name:"latency" default:"100ms" group:"sandbox" help:"Mean time from a call to its answer."`
	Jitter        time.Duration `name:"jitter" default:"50ms" group:"sandbox" help:"Most by which the latency varies, up or down."`
	Rate          int           `name:"page-rate" default:"300" group:"sandbox" help:"Calls a second above which a page is throttled, as at Facebook. -1: no limit."`
	Volume        int           `name:"high-volume" default:"40" group:"sandbox" help:"Messages a second that a page must not exceed for long, as at Facebook. -1: no limit."`
	Seed          uint64        `name:"seed" default:"0" group:"sandbox" help:"Seed of the random latencies, to repeat a run. 0: random."`
	Remote        bool          `name:"allow-remote" group:"sandbox" help:"Allow addresses that other machines can reach."`
}

func (sandboxCommand) Help() string {
	return "Answers as Facebook documents it, and enforces Facebook's limits. No message reaches a person. It prints which " +
		"recipients fail and how, and the commands of the control API, one of which lets a person write. Let workers send to it with " +
		"--graph-url. A simulated Braze runs beside it: make its address the url of a Braze workspace in the page file."
}

func (c sandboxCommand) Run(ctx context.Context, std cli.Stdio) error {
	cfg, brazeKeys, err := c.config()
	if err != nil {
		return cli.Usage(err)
	}
	s, err := sandbox.New(cfg)
	if err != nil {
		return cli.Usage(sandboxInFlags(err))
	}
	b, err := c.openBraze(brazeKeys)
	if err != nil {
		return errors.Join(cli.Usage(err), s.Close())
	}
	fmt.Fprintf(std.Out, "%s%s\n%s%s", s.Banner(), b.banner(), s.Help(), b.help())
	<-ctx.Done()
	return errors.Join(s.Close(), b.close())
}

// config is what the simulated Facebook is made of, and the keys that are valid at the simulated Braze.
func (c sandboxCommand) config() (cfg sandbox.Config, brazeKeys []string, err error) {
	cfg = sandbox.Config{Listen: c.Listen, Control: c.Control, Latency: c.Latency, Jitter: c.Jitter, Seed: c.Seed, AllowRemote: c.Remote}
	cfg.Webhook.URL = c.WebhookURL
	if c.Pages != "" {
		pages, err := pagefile.Read(c.Pages, pagefile.Options{LiftedRates: true})
		if err != nil {
			return cfg, nil, err
		}
		if cfg.Pages, err = simulated(pages); err != nil {
			return cfg, nil, err
		}
		if cfg.Webhook.Apps, err = simulatedApps(pages); err != nil {
			return cfg, nil, err
		}
		if brazeKeys, err = keysOf(pages); err != nil {
			return cfg, nil, err
		}
	}
	if c.WebhookSecret != "" {
		if len(cfg.Webhook.Apps) > 0 {
			return cfg, nil, &cli.FlagError{Flag: "--webhook-secret-file", Fault: "must not be set with a page file whose apps have secrets"}
		}
		secret, err := onlySecret("--webhook-secret-file", c.WebhookSecret)
		if err != nil {
			return cfg, nil, err
		}
		cfg.Webhook.Apps = []sandbox.App{{Name: "sandbox", Secret: secret}}
	}
	cfg.AnyPage.Rate, cfg.AnyPage.HighVolume = c.Rate, c.Volume
	for i := range cfg.Pages {
		cfg.Pages[i].Rate, cfg.Pages[i].HighVolume = c.Rate, c.Volume
	}
	return cfg, brazeKeys, nil
}

// simulated makes the sandbox know the pages of a page file.
func simulated(pages []pagefile.Page) ([]sandbox.Page, error) {
	known := make([]sandbox.Page, len(pages))
	for i, p := range pages {
		cred, err := p.Secrets.Read()
		if err != nil {
			return nil, fmt.Errorf("page %s: %w", p.Name, err)
		}
		known[i] = sandbox.Page{ID: p.ID, Name: p.Name, Token: cred.Token, AppSecret: cred.AppSecret}
		if p.Webhooks != nil {
			known[i].App = p.Webhooks.Name
		}
	}
	return known, nil
}

// simulatedApps makes the sandbox know the apps of a page file. Of an app's secrets the first signs, as it does at Facebook once
// it has replaced the others.
func simulatedApps(pages []pagefile.Page) (apps []sandbox.App, err error) {
	for _, a := range pagefile.Apps(pages) {
		app := sandbox.App{Name: a.Name}
		if app.Secret, err = onlySecret("secret_files", a.SecretFiles[0]); err != nil {
			return nil, fmt.Errorf("app %s: %w", a.Name, err)
		}
		if app.VerifyToken, err = onlySecret("verify_token_file", a.VerifyTokenFile); err != nil {
			return nil, fmt.Errorf("app %s: %w", a.Name, err)
		}
		apps = append(apps, app)
	}
	return apps, nil
}

// keysOf are the keys of a page file's Braze workspaces.
func keysOf(pages []pagefile.Page) (keys []string, err error) {
	for _, w := range pagefile.Workspaces(pages) {
		key, err := onlySecret("key_file", w.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("workspace %s of Braze: %w", w.Name, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// onlySecret is what is in a file with one secret.
func onlySecret(field, path string) (string, error) {
	all, err := pagefile.ReadSecrets(field, []string{path}, os.ReadFile)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(all[0])), nil
}

// sandboxFlags are the flags of fields of sandbox.Config.
var sandboxFlags = map[string]string{"Listen": "--listen", "Control": "--control-listen", "Latency": "--latency", "Jitter": "--jitter",
	"Webhook.URL": "--webhook-url", "AnyPage.Rate": "--page-rate", "AnyPage.HighVolume": "--high-volume"}

func sandboxInFlags(err error) error {
	field, ok := errors.AsType[sandbox.FieldError](err)
	if !ok || sandboxFlags[field.Field] == "" {
		return err
	}
	fault := field.Fault
	if strings.Contains(fault, "other machine") {
		fault += " (--allow-remote)"
	}
	return &cli.FlagError{Flag: sandboxFlags[field.Field], Fault: fault}
}
