package admin

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
	"github.com/brazier-relay/brazier/cmd/brazier/process"
	"github.com/brazier-relay/brazier/sendapi"
)

// WebhookCommand shows and repairs which webhooks Facebook sends.
type WebhookCommand struct {
	Status    webhookStatus    `cmd:"" help:"Show to which webhook fields pages are subscribed."`
	Subscribe subscribeWebhook `cmd:"" help:"Subscribe a page to the webhook fields that are needed."`
}

func (WebhookCommand) Help() string {
	return "Facebook sends webhooks of a page to an app that is subscribed to the page, and ends that without notice after an hour of failures. " +
		"These commands call Facebook with the page's token; they need no NATS. The app's callback URL and verify token are set " +
		"in Facebook's dashboard."
}

// graphAccess is what calls to Facebook need.
type graphAccess struct {
	process.PagesFlags
	GraphURL      string `name:"graph-url" default:"${graph_url}" group:"graph" help:"Address of the Graph API."`
	GraphVersion  string `name:"graph-version" default:"${graph_version}" group:"graph" help:"Version of the Graph API to call."`
	GraphInsecure bool   `name:"graph-insecure" group:"graph" help:"Allow http:// to another machine. Tokens cross that network in the clear."`
}

// open returns the pages whose webhooks are wanted, and a client, which the caller closes.
func (f graphAccess) open() ([]pagefile.Page, *sendapi.Client, error) {
	pages, err := pagefile.Read(f.Pages, pagefile.ForWorker(f.GraphURL))
	if err != nil {
		return nil, nil, cli.Usage(err)
	}
	pages = slices.DeleteFunc(pages, func(p pagefile.Page) bool { return p.Webhooks == nil })
	client, err := sendapi.NewClient(sendapi.Config{GraphURL: f.GraphURL, Version: f.GraphVersion, AllowPlainHTTP: f.GraphInsecure})
	if err != nil {
		return nil, nil, cli.Usage(process.SendAPIInFlags(err))
	}
	return pages, client, nil
}

// wanted returns the page that is given by its id or its name.
func (f graphAccess) wanted(pages []pagefile.Page, page string) (pagefile.Page, error) {
	for _, p := range pages {
		if p.ID == page || p.Name == page {
			return p, nil
		}
	}
	return pagefile.Page{}, cli.Usagef("%q is neither an id nor a name of a page with app and braze in %s", page, f.Pages)
}

type webhookStatus struct {
	Page string `arg:"" optional:"" name:"page" help:"The page: its id, or its name in the page file. Default: all with webhooks."`
	JSON bool   `name:"json" env:"-" help:"One JSON object per line."`
	graphAccess
}

func (webhookStatus) Help() string {
	return "Exit code 0: all pages are subscribed to all fields that are needed, 1: one is not, or could not be asked."
}

// WebhookStatus is what the commands print of a page's webhooks.
type WebhookStatus struct {
	Page    string       `json:"page"`
	ID      string       `json:"id"`
	Apps    []WebhookApp `json:"apps"`
	Missing []string     `json:"missing"` // fields
	Error   string       `json:"error,omitempty"`
}

// WebhookApp is an app that is subscribed to a page.
type WebhookApp struct {
	ID     string   `json:"id"`
	Name   string   `json:"name"`
	Fields []string `json:"fields"`
}

func (v *WebhookStatus) state() string {
	switch {
	case v.Error != "":
		return "unknown"
	case len(v.Missing) == 0:
		return "subscribed"
	case len(v.Apps) == 0:
		return "lost"
	}
	return "incomplete"
}

func (c webhookStatus) Run(ctx context.Context, std cli.Stdio) error {
	pages, client, err := c.open()
	if err != nil {
		return err
	}
	defer client.Close()
	if c.Page != "" {
		page, err := c.wanted(pages, c.Page)
		if err != nil {
			return err
		}
		pages = []pagefile.Page{page}
	}
	out := bufio.NewWriter(std.Out)
	views := make([]WebhookStatus, len(pages))
	bad := 0
	for i, p := range pages {
		views[i] = webhookStatusOf(ctx, client, p)
		if views[i].state() != "subscribed" {
			bad++
		}
		if c.JSON {
			_ = json.NewEncoder(out).Encode(views[i]) // its error is out's, which Flush returns
		}
	}
	if !c.JSON {
		printWebhooks(out, views)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d page(s) are not known to be subscribed: brazier webhook subscribe PAGE", bad, len(pages))
	}
	return nil
}

func webhookStatusOf(ctx context.Context, client *sendapi.Client, p pagefile.Page) WebhookStatus {
	v := WebhookStatus{Page: p.Name, ID: p.ID, Apps: []WebhookApp{}, Missing: []string{}}
	apps, err := subscriptions(ctx, client, p)
	if err != nil {
		v.Error = err.Error()
		return v
	}
	for _, a := range apps {
		v.Apps = append(v.Apps, WebhookApp{ID: a.AppID, Name: a.App, Fields: append([]string{}, a.Fields...)})
	}
	v.Missing = append(v.Missing, sendapi.MissingFields(apps, sendapi.WebhookFields(p.HasReceipts()))...)
	return v
}

func subscriptions(ctx context.Context, client *sendapi.Client, p pagefile.Page) ([]sendapi.Subscription, error) {
	cred, err := p.Secrets.Read()
	if err != nil {
		return nil, err
	}
	return client.Subscriptions(ctx, cred, p.ID)
}

func printWebhooks(w io.Writer, views []WebhookStatus) {
	if len(views) == 0 {
		fmt.Fprintln(w, "No page of the page file has app and braze, so no webhooks are wanted.")
		return
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "PAGE\tID\tSTATE\tMISSING\tAPPS")
	for _, v := range views {
		var apps []string
		for _, a := range v.Apps {
			apps = append(apps, fmt.Sprintf("%s (%s): %s", printable(cmp.Or(a.Name, "?")), printable(a.ID), printable(strings.Join(a.Fields, ","))))
		}
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\n", printable(v.Page), v.ID, v.state(), cmp.Or(strings.Join(v.Missing, ","), "-"),
			cmp.Or(printable(v.Error), strings.Join(apps, "; "), "-"))
	}
	_ = tab.Flush() // w is a bufio.Writer, and keeps its error
}

type subscribeWebhook struct {
	Page string `arg:"" name:"page" help:"The page: its id, or its name in the page file."`
	graphAccess
}

func (subscribeWebhook) Help() string {
	return "The page's token needs the permission pages_manage_metadata, from somebody with the task MODERATE. Fields to which the page's " +
		"only app is subscribed already are kept. What Facebook then says is shown; exit code 1: fields are missing still."
}

func (c subscribeWebhook) Run(ctx context.Context, std cli.Stdio) error {
	pages, client, err := c.open()
	if err != nil {
		return err
	}
	defer client.Close()
	page, err := c.wanted(pages, c.Page)
	if err != nil {
		return err
	}
	apps, err := subscriptions(ctx, client, page)
	if err != nil {
		return fmt.Errorf("page %s: %w", page.Name, err)
	}
	cred, err := page.Secrets.Read()
	if err != nil {
		return err
	}
	if err := client.Subscribe(ctx, cred, page.ID, fieldsToSubscribe(page, apps)); err != nil {
		return fmt.Errorf("page %s: %w", page.Name, withPermission(err))
	}
	v := webhookStatusOf(ctx, client, page)
	out := bufio.NewWriter(std.Out)
	printWebhooks(out, []WebhookStatus{v})
	if err := out.Flush(); err != nil {
		return err
	}
	if v.state() != "subscribed" {
		return fmt.Errorf("page %s: Facebook took the subscription, and does not show all fields", page.Name)
	}
	return nil
}

// fieldsToSubscribe are those that are needed and those that the app has: a subscription may replace the one before. Of several
// apps nobody knows here which is the token's.
func fieldsToSubscribe(page pagefile.Page, apps []sendapi.Subscription) []string {
	fields := sendapi.WebhookFields(page.HasReceipts())
	if len(apps) != 1 {
		return fields
	}
	for _, f := range apps[0].Fields {
		if !slices.Contains(fields, f) {
			fields = append(fields, f)
		}
	}
	return fields
}

// withPermission adds what Facebook's codes of a refused permission mean for this call.
func withPermission(err error) error {
	var refused *sendapi.Error
	if errors.As(err, &refused) && (refused.Code == 10 || refused.Code >= 200 && refused.Code <= 299) {
		return fmt.Errorf("%w: the token needs the permission pages_manage_metadata, from somebody with the task MODERATE on the page", err)
	}
	return err
}
