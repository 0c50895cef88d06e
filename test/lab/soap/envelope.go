package main

import (
	"bytes"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

const namespace = "urn:vim25"

// vimType resolves a type name of the wire, with or without a namespace prefix.
func vimType(name string) (reflect.Type, bool) {
	kind, ok := types.TypeFunc()(name)
	if !ok {
		if colon := strings.IndexByte(name, ':'); colon >= 0 {
			kind, ok = types.TypeFunc()(name[colon+1:])
		}
	}
	return kind, ok
}

// decodeMethod reads a request. The simulator's decoder panics on a body that is a type but no method.
func decodeMethod(body []byte) (method *simulator.Method, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			method, err = nil, fmt.Errorf("not a method call: %v", cause)
		}
	}()
	return simulator.UnmarshalBody(vimType, body)
}

type envelope struct {
	XMLName xml.Name    `xml:"soapenv:Envelope"`
	Enc     string      `xml:"xmlns:soapenc,attr"`
	Env     string      `xml:"xmlns:soapenv,attr"`
	XSD     string      `xml:"xmlns:xsd,attr"`
	XSI     string      `xml:"xmlns:xsi,attr"`
	Body    interface{} `xml:"soapenv:Body"`
}

func newEnvelope(body interface{}) *envelope {
	return &envelope{
		Enc:  "http://schemas.xmlsoap.org/soap/encoding/",
		Env:  "http://schemas.xmlsoap.org/soap/envelope/",
		XSD:  "http://www.w3.org/2001/XMLSchema",
		XSI:  "http://www.w3.org/2001/XMLSchema-instance",
		Body: body,
	}
}

// responseBody puts a response struct into the body under its own name and the API's namespace.
type responseBody struct{ value interface{} }

func (b responseBody) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	name := reflect.TypeOf(b.value).Elem().Name()
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	inner := xml.StartElement{Name: xml.Name{Space: namespace, Local: name}}
	if err := e.EncodeElement(b.value, inner); err != nil {
		return err
	}
	return e.EncodeToken(start.End())
}

type faultBody struct {
	Fault faultElement
}

type faultElement struct {
	XMLName xml.Name `xml:"soapenv:Fault"`
	Code    string   `xml:"faultcode"`
	String  string   `xml:"faultstring"`
	Detail  struct {
		Fault *faultDetail
	} `xml:"detail"`
}

type faultDetail struct{ fault types.BaseMethodFault }

// MarshalXML names the element after the fault's type, as a host does: <FooFault xsi:type="Foo">.
func (d *faultDetail) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	kind := reflect.TypeOf(d.fault).Elem().Name()
	start.Name.Local = kind + "Fault"
	start.Attr = append(start.Attr,
		xml.Attr{Name: xml.Name{Local: "xmlns"}, Value: namespace},
		xml.Attr{Name: xml.Name{Local: "xsi:type"}, Value: kind})
	return e.EncodeElement(d.fault, start)
}

func encodeEnvelope(body interface{}) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString(xml.Header)
	if err := xml.NewEncoder(&out).Encode(newEnvelope(body)); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// writeResponse answers with a response struct, for example &types.LoginResponse{}.
func writeResponse(w http.ResponseWriter, response interface{}) {
	out, err := encodeEnvelope(responseBody{response})
	if err != nil {
		writeFault(w, &vimFault{text: err.Error(), fault: &types.SystemError{Reason: err.Error()}})
		return
	}
	writeXML(w, http.StatusOK, out)
}

// writeFault answers with a SOAP fault; a host sends every one of them with status 500.
func writeFault(w http.ResponseWriter, f *vimFault) {
	body := faultBody{}
	body.Fault.Code = "ServerFaultCode"
	body.Fault.String = f.text
	body.Fault.Detail.Fault = &faultDetail{f.fault}
	out, err := encodeEnvelope(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeXML(w, http.StatusInternalServerError, out)
}

func writeXML(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// encodeRequest writes a call, for example &types.Login{}.
func encodeRequest(request interface{}) ([]byte, error) {
	return encodeEnvelope(responseBody{request})
}

// decodeAnswer reads a response into a struct of its type; a fault in its place is returned as an error.
func decodeAnswer(body []byte, response interface{}) error {
	decoder := xml.NewDecoder(bytes.NewReader(body))
	decoder.TypeFunc = vimType
	inBody := false
	for {
		token, err := decoder.Token()
		if err != nil {
			return fmt.Errorf("decoding an answer: %w", err)
		}
		start, ok := token.(xml.StartElement)
		switch {
		case !ok:
		case !inBody:
			inBody = start.Name.Local == "Body"
		case start.Name.Local == "Fault":
			var fault soap.Fault
			if err := decoder.DecodeElement(&fault, &start); err != nil {
				return fmt.Errorf("decoding a fault: %w", err)
			}
			return simulatorFault(&fault)
		default:
			return decoder.DecodeElement(response, &start)
		}
	}
}

func simulatorFault(f *soap.Fault) error {
	value := reflect.ValueOf(f.Detail.Fault)
	if value.IsValid() && value.Kind() != reflect.Ptr {
		pointer := reflect.New(value.Type())
		pointer.Elem().Set(value)
		value = pointer
	}
	if value.IsValid() {
		if fault, ok := value.Interface().(types.BaseMethodFault); ok {
			return &vimFault{text: f.String, fault: fault}
		}
	}
	return invalidRequest(f.String)
}
