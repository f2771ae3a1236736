FROM python:3.12-slim
RUN useradd --create-home charlm
WORKDIR /home/charlm/package
COPY pyproject.toml README.md constraints.txt ./
COPY charlm ./charlm
COPY checkpoints/nietzsche.safetensors ./checkpoints/
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt '.[serve]'
USER charlm
EXPOSE 8000
CMD ["charlm", "serve", "nietzsche", "--host", "0.0.0.0"]
