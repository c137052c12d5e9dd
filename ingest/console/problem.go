package console

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/bodyworn/ingestd/ingest/accounts"
	"github.com/bodyworn/ingestd/ingest/custody"
	"github.com/bodyworn/ingestd/ingest/journal"
)

// Problem is an answer that is not what was asked for.
type Problem struct {
	Status int
	// Code is stable; "error.CODE" and "error.CODE.help" are its words in the catalogues.
	Code string
	// Detail says more, in words that are already those of the reader; may be empty.
	Detail string
	// RetryAfter is when it is worth another try; 0: that does not depend on the time.
	RetryAfter time.Duration

	cause error
}

func (p Problem) Error() string {
	if p.cause != nil {
		return p.Code + ": " + p.cause.Error()
	}
	return p.Code
}

// Wait is RetryAfter in whole seconds, as text.
func (p Problem) Wait() string { return seconds(p.RetryAfter) }

func (p Problem) Unwrap() error { return p.cause }

// problemOf gives errors of the packages behind us their answer.
func problemOf(err error) Problem {
	var p Problem
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, journal.ErrNotFound):
		return Problem{Status: http.StatusNotFound, Code: "not_found", cause: err}
	case errors.Is(err, custody.ErrRefused):
		return Problem{Status: http.StatusForbidden, Code: "refused", Detail: err.Error(), cause: err}
	case errors.As(err, &tooLarge):
		return Problem{Status: http.StatusRequestEntityTooLarge, Code: "too_large", cause: err}
	}
	return Problem{Status: http.StatusInternalServerError, Code: "internal", cause: err}
}

// loginProblem is the answer to a password; wrong is the code of a wrong one.
func (c *Console) loginProblem(err error, wrong string) error {
	var soon accounts.TooSoon
	var p Problem
	switch {
	case err == nil || errors.As(err, &p):
		return err
	case errors.As(err, &soon):
		return Problem{Status: http.StatusTooManyRequests, Code: "too_soon", RetryAfter: soon.Wait, cause: err}
	case errors.Is(err, accounts.ErrWrong):
		return Problem{Status: http.StatusForbidden, Code: wrong, cause: err}
	}
	return c.unwritten(err)
}

func isAPI(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/api/") }

// writeJSON is RFC 9457, with the member code.
func (p Problem) writeJSON(w http.ResponseWriter, words Words) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	detail := p.Detail
	if detail == "" {
		detail = words.T("error." + p.Code + ".help")
	}
	// A client that is gone can't be told.
	_ = json.NewEncoder(w).Encode(map[string]any{"title": words.T("error." + p.Code), "status": p.Status, "detail": detail, "code": p.Code})
}
