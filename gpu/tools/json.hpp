#pragma once
// Writes one JSON object or list, field by field; names and texts are this program's own or a driver's.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>

namespace graval {

inline std::string json_text(const std::string &text) {
  std::string out = "\"";
  for (const char c : text) {
    char escaped[8];
    if (c == '"' || c == '\\') (out += '\\') += c;
    else if (static_cast<unsigned char>(c) < 32) {
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
      out += escaped;
    } else out += c;
  }
  return out + '"';
}

class Json {
 public:
  Json &raw(const std::string &name, const std::string &value) {
    body_ += (body_.empty() ? "" : ",") + json_text(name) + ":" + value;
    return *this;
  }
  Json &text(const std::string &name, const std::string &value) { return raw(name, json_text(value)); }
  Json &number(const std::string &name, std::uint64_t value) { return raw(name, std::to_string(value)); }
  Json &flag(const std::string &name, bool value) { return raw(name, value ? "true" : "false"); }
  /// Four significant digits; null where there is none.
  Json &measure(const std::string &name, double value) {
    char text[40];
    std::snprintf(text, sizeof text, "%.4g", value);
    return raw(name, std::isfinite(value) ? text : "null");
  }
  std::string str() const { return "{" + body_ + "}"; }

 private:
  std::string body_;
};

}  // namespace graval
