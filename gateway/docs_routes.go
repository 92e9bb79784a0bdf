package gateway

import (
	_ "embed"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/wxrelay/wxrelay/gateway/docs"
	"github.com/wxrelay/wxrelay/relay"
)

// openAPI describes the public face: the one place where routes, fields, states, codes and event types are written down
// for the outside.
//
//go:embed openapi.yaml
var openAPI []byte

func newDocs(version string) *docs.Docs {
	rows := relay.Errcodes()
	book := make([]docs.Errcode, len(rows))
	for i, e := range rows {
		book[i] = docs.Errcode{Code: e.Code, Name: e.Name, Meaning: e.Meaning, MeaningZH: e.MeaningZH, Cause: e.Cause, CauseZH: e.CauseZH, Cure: e.Cure, CureZH: e.CureZH,
			Reaction: e.Reaction, ReactionText: e.Does, ReactionTextZH: e.DoesZH, Doc: e.Doc}
	}
	return docs.New(docs.Options{OpenAPI: openAPI, Errcodes: book, Version: version})
}

// docsPage serves a document; what is not there is a problem as everywhere here.
func (g *Handler) docsPage(c *gin.Context) {
	w := &missed{ResponseWriter: c.Writer}
	g.docs.ServeHTTP(w, c.Request)
	if w.status == http.StatusNotFound {
		g.refuse(c, errNoRoute)
	}
}

// missed keeps a 404 back.
type missed struct {
	http.ResponseWriter
	status int
}

func (m *missed) WriteHeader(status int) {
	if m.status = status; status != http.StatusNotFound {
		m.ResponseWriter.WriteHeader(status)
	}
}

func (m *missed) Write(p []byte) (int, error) {
	if m.status == http.StatusNotFound {
		for name := range m.Header() {
			if !strings.EqualFold(name, requestIDHeader) {
				m.Header().Del(name)
			}
		}
		return len(p), nil
	}
	return m.ResponseWriter.Write(p)
}
