package sendapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// webhookFields are what the way from webhooks to Braze needs. Do not add response_feedback: subscribing to it shows thumbs under
// each message (webhook events pages).
var webhookFields = []string{"messages", "messaging_postbacks", "messaging_referrals", "messaging_optins", "message_reactions",
	"messaging_policy_enforcement"}

// WebhookFields returns the fields of its webhook to which a page has to be subscribed, with those of receipts where they are
// wanted. The caller owns the slice.
func WebhookFields(receipts bool) []string {
	fields := slices.Clone(webhookFields)
	if receipts {
		fields = append(fields, "message_deliveries", "message_reads")
	}
	return fields
}

// Subscription is an app that gets the webhooks of a page.
type Subscription struct {
	AppID  string
	App    string // its name, as somebody wrote it at Facebook
	Fields []string
}

// MissingFields returns which of the wanted fields the app with the most of them lacks, in their order. A page's token does not say
// which app is its own, so a page with several apps counts as subscribed once one of them has all fields.
func MissingFields(apps []Subscription, wanted []string) []string {
	missing := slices.Clone(wanted)
	for _, app := range apps {
		lacks := slices.DeleteFunc(slices.Clone(wanted), func(field string) bool { return slices.Contains(app.Fields, field) })
		if len(lacks) < len(missing) {
			missing = lacks
		}
	}
	return missing
}

// Subscriptions returns the apps that are subscribed to a page's webhook, none where the subscription was lost: Facebook ends it after
// an hour of failures (webhooks page). The call is bounded by ctx, by Config.Timeout and by 30 s. Every error is an *[Error].
func (c *Client) Subscriptions(ctx context.Context, cred Credentials, page string) ([]Subscription, error) {
	body, failure := c.callSubscribedApps(ctx, http.MethodGet, cred, page, nil)
	if failure != nil {
		return nil, failure
	}
	var list struct {
		Data []struct {
			ID     json.RawMessage `json:"id"` // may be a number beyond a float's digits
			Name   json.RawMessage `json:"name"`
			Fields []string        `json:"subscribed_fields"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &list); err != nil || list.Data == nil {
		return nil, &Error{Status: http.StatusOK, Class: ClassTransient, Silent: true, Err: errNotList}
	}
	apps := make([]Subscription, len(list.Data))
	for i, d := range list.Data {
		apps[i] = Subscription{AppID: rawID(d.ID), App: rawString(d.Name), Fields: d.Fields}
	}
	return apps, nil
}

// Subscribe subscribes the token's app to fields of a page's webhook. Whether fields that are left out are ended is not documented.
// The token needs the permission pages_manage_metadata and the task MODERATE (page subscribed_apps reference). The call is bounded
// like that of [Client.Subscriptions]. Every error is an *[Error].
func (c *Client) Subscribe(ctx context.Context, cred Credentials, page string, fields []string) error {
	body, failure := c.callSubscribedApps(ctx, http.MethodPost, cred, page, fields)
	if failure != nil {
		return failure
	}
	var done struct {
		Success json.RawMessage `json:"success"`
	}
	if err := json.Unmarshal(body, &done); err != nil || !rawBool(done.Success) {
		return &Error{Status: http.StatusOK, Class: ClassTransient, Silent: true, Err: errNoSuccess}
	}
	return nil
}

// callSubscribedApps returns the JSON object of an answer that is no error. An error is never ClassInDoubt: the call may be repeated.
func (c *Client) callSubscribedApps(ctx context.Context, method string, cred Credentials, page string, fields []string) ([]byte, *Error) {
	if failure := refuse(ctx, cred, []byte("{}")); failure != nil {
		return nil, failure
	}
	if !isPSID(page) {
		return nil, &Error{Class: ClassMessage, Err: errPageID}
	}
	ctx, cancel := context.WithTimeout(ctx, min(c.timeout, textTimeout))
	defer cancel()
	query := cred.query(c.now())
	if len(fields) > 0 {
		separator := "?"
		if query != "" {
			separator = "&"
		}
		query += separator + "subscribed_fields=" + url.QueryEscape(strings.Join(fields, ","))
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.url, "/me/messages")+"/"+page+"/subscribed_apps"+query, nil)
	if err != nil {
		return nil, &Error{Class: ClassTransient, Err: safeCause(err)}
	}
	req.Header = http.Header{"Authorization": {"Bearer " + cred.Token}, "User-Agent": {"brazier"}}
	resp, err := c.transport.RoundTrip(req) // no redirect is followed, and no error holds the URL: see Client.try
	if err != nil {
		return nil, &Error{Class: ClassTransient, Err: safeCause(err)}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = errTooLong
	}
	silence := func(cause error) *Error {
		return repeatable(&Error{Status: resp.StatusCode, Class: rowOfStatus(resp.StatusCode).silent, Silent: true, Err: safeCause(cause)})
	}
	if err != nil {
		return nil, silence(err)
	}
	var answer map[string]json.RawMessage
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, silence(errNotJSON)
	}
	if failure := decodeError(resp.StatusCode, answer["error"]); failure != nil {
		return nil, repeatable(failure)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, silence(errNoError)
	}
	return body, nil
}

// repeatable makes an error that would leave a message in doubt a transient one.
func repeatable(e *Error) *Error {
	if e.Class == ClassInDoubt || e.Class == ClassDeliveredAnyway {
		e.Class = ClassTransient
	}
	return e
}

const (
	errNotList   callFault = "the answer is not a list of apps"
	errNoSuccess callFault = "the answer does not report success"
	errPageID    callFault = "the page's id must consist of digits"
)
