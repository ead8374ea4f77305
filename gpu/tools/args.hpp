#pragma once
// Options of one subcommand: `--name value`, flags, and at most one file. Unknown or malformed ones are an error text.
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>

namespace graval {

class Args {
 public:
  /// spec: option name -> whether it takes a value.
  Args(int argc, char **argv, const std::map<std::string, bool> &spec) {
    for (int i = 0; i < argc; i++) {
      const std::string word = argv[i];
      if (word.rfind("--", 0) != 0) {
        if (!file_.empty()) fail("one file at most: " + word);
        file_ = word;
        continue;
      }
      const auto known = spec.find(word.substr(2));
      if (known == spec.end()) fail("unknown option " + word);
      else if (!known->second) values_[known->first] = "";
      else if (i + 1 == argc) fail(word + " needs a value");
      else values_[known->first] = argv[++i];
    }
  }
  bool has(const std::string &name) const { return values_.count(name) != 0; }
  std::string text(const std::string &name, const std::string &otherwise = "") const {
    const auto found = values_.find(name);
    return found == values_.end() ? otherwise : found->second;
  }
  /// A whole number of [-1, most].
  std::int64_t number(const std::string &name, std::int64_t otherwise, std::int64_t most = 0xffffffffLL) {
    const auto found = values_.find(name);
    if (found == values_.end()) return otherwise;
    char *end = nullptr;
    const long long value = std::strtoll(found->second.c_str(), &end, 10);
    if (found->second.empty() || *end != 0 || value < -1 || value > most) {
      fail("--" + name + " is not a number in range: " + found->second);
      return otherwise;
    }
    return value;
  }
  std::uint32_t count(const std::string &name, std::uint32_t otherwise) {
    const std::int64_t value = number(name, otherwise);
    if (value < 0) fail("--" + name + " is negative");
    return std::uint32_t(value);
  }
  const std::string &file() const { return file_; }
  const std::string &error() const { return error_; }
  void fail(const std::string &why) {
    if (error_.empty()) error_ = why;
  }

 private:
  std::map<std::string, std::string> values_;
  std::string file_, error_;
};

}  // namespace graval
