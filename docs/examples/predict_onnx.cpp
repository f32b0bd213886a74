// Predict with an exported model: ./predict_onnx model.onnx
//
//     c++ -std=c++17 predict_onnx.cpp -I$ONNXRUNTIME/include -L$ONNXRUNTIME/lib -lonnxruntime -o predict_onnx
//
// $ONNXRUNTIME is an unpacked release of ONNX Runtime. Prints the mean of every predicted field at points of a spiral,
// for inputs of 0.1.

#include <onnxruntime_cxx_api.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: predict_onnx MODEL.onnx\n";
    return 2;
  }
  try {
    Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "predict");
    Ort::Session session(env, argv[1], Ort::SessionOptions{});
    Ort::AllocatorWithDefaultOptions allocator;
    const std::int64_t count = 1000;

    std::vector<std::string> names;
    std::vector<std::vector<float>> buffers;  // they outlive the tensors, which only refer to them
    std::vector<Ort::Value> arguments;
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    buffers.reserve(session.GetInputCount());
    for (std::size_t i = 0; i < session.GetInputCount(); ++i) {
      names.emplace_back(session.GetInputNameAllocated(i, allocator).get());
      const auto type = session.GetInputTypeInfo(i);
      const std::int64_t width = type.GetTensorTypeAndShapeInfo().GetShape()[1];
      auto& values = buffers.emplace_back(count * width, 0.1f);
      if (names.back() == "points") {  // [N, D], in the units of the training data
        for (std::int64_t n = 0; n < count; ++n) {
          for (std::int64_t d = 0; d < width; ++d) {
            const float radius = float(n) / count;
            values[n * width + d] = radius * std::cos(0.1f * n - 1.5708f * d);
          }
        }
      }
      const std::array<std::int64_t, 2> shape{count, width};
      arguments.push_back(
          Ort::Value::CreateTensor<float>(memory, values.data(), values.size(), shape.data(), shape.size()));
    }
    std::vector<std::string> results;
    for (std::size_t i = 0; i < session.GetOutputCount(); ++i) {
      results.emplace_back(session.GetOutputNameAllocated(i, allocator).get());
    }
    std::vector<const char*> given, wanted;
    for (const auto& name : names) given.push_back(name.c_str());
    for (const auto& name : results) wanted.push_back(name.c_str());

    const auto fields = session.Run(Ort::RunOptions{nullptr}, given.data(), arguments.data(), arguments.size(),
                                    wanted.data(), wanted.size());
    for (std::size_t i = 0; i < fields.size(); ++i) {
      const std::int64_t width = fields[i].GetTensorTypeAndShapeInfo().GetShape()[1];
      const float* values = fields[i].GetTensorData<float>();
      std::cout << results[i] << " [" << count << ", " << width << "] mean";
      for (std::int64_t c = 0; c < width; ++c) {
        double sum = 0;
        for (std::int64_t n = 0; n < count; ++n) sum += values[n * width + c];
        std::cout << ' ' << sum / count;
      }
      std::cout << '\n';
    }
  } catch (const Ort::Exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
